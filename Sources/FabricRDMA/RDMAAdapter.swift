import CFabricVerbs
import FabricAdapterParts
import FabricPlatform
public import FabricVerbs
import Synchronization

/// A fabric of RDMA devices: InfiniBand, RoCE and iWARP through libibverbs, connected by the
/// connection manager. (Specs/RDMA.md)
///
/// Addresses are HOST:PORT or [IPv6]:PORT of a network interface that the device belongs to; the
/// manager finds the way, and with it the GID.
public final class RDMAAdapter: Adapter {
  public let fabric = "rdma"
  private let device: OpenDevice
  private let options: RDMAOptions
  private let ways: RDMAWays

  /// Opens a device: the one that `options` name, or that `address` leads to, or else the first.
  ///
  /// - Parameters:
  ///   - address: what the adapter is for. The connection manager may take a second to say where it leads.
  ///   - isListening: the address is to be listened at, and otherwise connected to.
  public init(
    _ options: RDMAOptions = RDMAOptions(), for address: FabricAddress? = nil,
    isListening: Bool = false
  ) throws(ResourceError) {
    self.options = options
    ways = RDMAWays(options.log)
    let name =
      options.device
      ?? address.flatMap {
        OpenDevice.name(reaching: $0.endpoint, isListening: isListening)
      }
    device = try OpenDevice.open(named: name)
  }

  /// Where the device's card is.
  public var numaNode: Int? { device.numaNode }

  private var privateDataForm: PrivateDataForm {
    PrivateDataForm(isIWARP: device.isIWARP, isPlain: options.hasPlainPrivateData)
  }

  /// The device's name.
  public var deviceName: String { device.name }

  public var capabilities: AdapterCapabilities {
    AdapterCapabilities(
      hasImmediateWrite: !device.isIWARP, hasImmediateSend: !device.isIWARP, hasRemoteRead: true,
      hasSharedReceiveQueue: true, hasForeignMemory: true, hasAcknowledgements: !device.isIWARP,
      sendsWaitForReceives: !device.isIWARP, hasRefusalReasons: !device.isSoftwareIWARP,
      tellsDeath: false,
      peersAreStrangers: false, hasUnguessableKeys: false, hasKeysOfOneConnection: false,
      maximumInlineByteCount: device.maximumInlineByteCount,
      maximumPrivateDataByteCount: privateDataForm.limit,
      maximumMessageByteCount: device.maximumMessageByteCount,
      maximumCompletionCount: device.maximumCompletionCount)
  }

  public func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    try RDMAProtectionDomain(device)
  }

  public func makeCompletionQueue(capacity: Int) throws(ResourceError) -> any CompletionQueue {
    try QueueCapacity.check(completions: capacity)
    return try RDMACompletionQueue(device, capacity: capacity)
  }

  public func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    try QueueCapacity.check(requests: capacity, "shared receive queue")
    guard let domain = protectionDomain as? RDMAProtectionDomain else { throw .foreignParts }
    return try RDMASharedReceiveQueue(in: domain, capacity: capacity)
  }

  public func makeQueuePair(
    _ attributes: QueuePairAttributes
  ) throws(ResourceError) -> any QueuePair {
    try attributes.checkCapacities()
    let queuePair = try RDMAQueuePair(device, attributes)
    device.events.add(queuePair)
    return queuePair
  }

  public func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    do {
      return try RDMAEventChannel(device)
    } catch {
      throw .refusal(
        error, opening: "/dev/infiniband/rdma_cm", doing: "making an event channel")
    }
  }

  public func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    let (hosts, events) = try resolve(address, events)
    if !options.listensBeyondLoopback, let host = hosts.first(where: { !$0.isLoopback }) {
      throw .invalidAddress(
        "expected an address that other machines cannot reach, got \(address), which stands for "
          + host.description)
    }
    return try RDMAListener(
      at: hosts, device, events: events, ways: ways, form: privateDataForm, log: options.log)
  }

  public func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    let (hosts, events) = try resolve(address, events)
    guard privateData.count <= capabilities.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    guard let queuePair = queuePair as? RDMAQueuePair,
      queuePair.transition(from: .initialized, to: .readyToReceive)
    else { throw .invalidState }
    var made: UnsafeMutablePointer<rdma_cm_id>?
    guard unsafe rdma_create_id(events.handle, &made, nil, RDMA_PS_TCP) == 0,
      let identifier = unsafe made
    else { throw .system(Errno.current, doing: "making an identifier to connect with") }
    let connection = unsafe RDMAConnection(
      identifier, queuePair, to: address, privateData: privateData, form: privateDataForm,
      deadline: .now + timeout,
      events: events, ways: ways)
    do {
      try connection.start(to: hosts[0], timeout: timeout)
    } catch {
      queuePair.fail(.failure("connecting failed: \(error)"))
      throw .unreachable("there is no way to \(address) by RDMA: \(error)")
    }
  }

  /// At least one.
  private func resolve(
    _ address: FabricAddress, _ events: any ConnectionEventChannel
  ) throws(ConnectError) -> ([InternetAddress], RDMAEventChannel) {
    guard address.fabric == fabric, let events = events as? RDMAEventChannel else {
      throw .invalidAddress("expected an address rdma:HOST:PORT, got \(address)")
    }
    do {
      let hosts = try InternetAddress.resolve(address.endpoint)
      if hosts.isEmpty { throw ConnectError.invalidAddress("\(address): no address") }
      return (hosts, events)
    } catch {
      throw .invalidAddress("\(address): \(error)")
    }
  }
}
