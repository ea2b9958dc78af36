import FabricAdapterParts
import FabricIWARP
import FabricPlatform
public import FabricVerbs
import Synchronization

/// A fabric between any two machines that can reach each other by TCP: iWARP in user space, the
/// same on the wire as the Linux kernel's `siw` and iWARP cards. (Specs/IWARP.md)
///
/// Addresses are HOST:PORT or [IPv6]:PORT. A send or write that has succeeded was handed to the
/// operating system; see `AdapterCapabilities.hasAcknowledgements`.
public final class TCPAdapter: Adapter {
  public let fabric = "tcp"
  let options: TCPOptions
  private static let nextNumber = Atomic<UInt32>(1)
  private let living = LivingQueuePairs()

  public init(_ options: TCPOptions = TCPOptions()) throws(ResourceError) {
    guard 512...65000 ~= options.segmentByteCount else {
      throw .invalidCapacity(
        "expected segments of 512 to 65000 bytes, got \(options.segmentByteCount)")
    }
    self.options = options
  }

  public var capabilities: AdapterCapabilities {
    AdapterCapabilities(
      hasImmediateWrite: options.hasImmediateData, hasImmediateSend: false, hasRemoteRead: true,
      hasSharedReceiveQueue: true, hasForeignMemory: true, hasAcknowledgements: false,
      peersAreStrangers: true,
      maximumInlineByteCount: SendEntry.maximumInlineByteCount,
      maximumPrivateDataByteCount: options.maximumPrivateDataByteCount,
      maximumMessageByteCount: 1 << 30)
  }

  public func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    TCPProtectionDomain()
  }

  /// Ends all connections as the death of the process does.
  func die() { for queuePair in living.all { queuePair.hangUp() } }

  public func makeCompletionQueue(capacity: Int) throws(ResourceError) -> any CompletionQueue {
    try QueueCapacity.check(completions: capacity)
    do {
      return try TCPCompletionQueue(capacity: capacity)
    } catch {
      throw .system(error, doing: "making a completion queue")
    }
  }

  public func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    try QueueCapacity.check(requests: capacity, "shared receive queue")
    guard let domain = protectionDomain as? TCPProtectionDomain else { throw .foreignParts }
    return ReceiveQueue(localKeys: domain.keys.local, capacity: capacity)
  }

  public func makeQueuePair(
    _ attributes: QueuePairAttributes
  ) throws(ResourceError) -> any QueuePair {
    try attributes.checkCapacities()
    guard let domain = attributes.protectionDomain as? TCPProtectionDomain,
      let sends = attributes.sendCompletionQueue as? TCPCompletionQueue,
      let receives = attributes.receiveCompletionQueue as? TCPCompletionQueue
    else { throw .foreignParts }
    let queue = try attributes.receiveQueue(localKeys: domain.keys.local)
    return TCPQueuePair(
      number: Self.nextNumber.add(1, ordering: .relaxed).oldValue, options: options, living: living,
      domain: domain, sendCompletionQueue: sends, receiveCompletionQueue: receives,
      receiveQueue: queue, usesSharedReceiveQueue: attributes.sharedReceiveQueue != nil,
      sendCapacity: attributes.sendCapacity)
  }

  public func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    do {
      return try EventChannel()
    } catch {
      throw .system(error, doing: "making an event channel")
    }
  }

  public func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    guard address.fabric == fabric, let events = events as? EventChannel else {
      throw .invalidAddress("expected an address tcp:HOST:PORT, got \(address)")
    }
    let places = try Self.resolve(address)
    guard options.listensBeyondLoopback || places.allSatisfy(\.isLoopback) else {
      throw .invalidAddress(
        "expected an address that other machines cannot reach, got \(address), which stands for "
          + places.map(\.description).joined(separator: ", "))
    }
    return try TCPListener(at: address, places, options: options, events: events)
  }

  public func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard address.fabric == fabric, let events = events as? EventChannel else {
      throw .invalidAddress("expected an address tcp:HOST:PORT, got \(address)")
    }
    guard let queuePair = queuePair as? TCPQueuePair, queuePair.state == .initialized else {
      throw .invalidState
    }
    guard privateData.count <= capabilities.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    let addresses = try Self.resolve(address)
    guard addresses.allSatisfy({ $0.port != 0 }) else {
      throw .invalidAddress("expected a port of 1 to 65535 to connect to, got \(address)")
    }
    guard queuePair.transition(from: .initialized, to: .readyToReceive) else {
      throw .invalidState
    }
    OutgoingConnection.start(
      queuePair, to: address, addresses, privateData: privateData, timeout: timeout,
      options: options, events: events)
  }

  static func resolve(_ address: FabricAddress) throws(ConnectError) -> [InternetAddress] {
    do {
      var found: [InternetAddress] = []
      for place in try InternetAddress.resolve(address.endpoint) where !found.contains(place) {
        found.append(place)
      }
      return found
    } catch {
      throw .invalidAddress("\(address): \(error)")
    }
  }
}
