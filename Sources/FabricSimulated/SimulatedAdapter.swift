import FabricAdapterParts
public import FabricVerbs

/// A process's way into a simulated network.
///
/// Threads: all of a network belongs to one thread at a time.
public final class SimulatedAdapter: Adapter, @unchecked Sendable {
  /// What the adapter can do; switched off, it stands for adapters that cannot.
  public struct Options: Sendable {
    public var hasImmediateWrite = true
    public var hasRemoteRead = true
    public var hasSharedReceiveQueue = true
    public var hasForeignMemory = true
    public var maximumInlineByteCount = 128
    public var maximumPrivateDataByteCount = 256
    public var maximumMessageByteCount = 1 << 30
    /// What is asked of a remote key; an adapter that leaves out one is broken, for tests of those who have to notice.
    public var keyChecks = KeyChecks.all

    public init() {}
  }

  /// What is asked of the remote key of a write.
  public struct KeyChecks: OptionSet, Sendable {
    public let rawValue: Int

    public init(rawValue: Int) { self.rawValue = rawValue }

    /// That the key was granted, and not revoked. Left out: a write with another one succeeds, and reaches nothing.
    public static let validity = KeyChecks(rawValue: 1)
    /// That it is of this connection. Left out: one of another connection's reaches that one's memory.
    public static let connection = KeyChecks(rawValue: 2)
    /// That the bytes lie in what it opens. Left out: a write beside it succeeds, and reaches nothing.
    public static let bounds = KeyChecks(rawValue: 4)
    public static let all: KeyChecks = [.validity, .connection, .bounds]
  }

  public let network: SimulatedNetwork
  public let name: String
  public let capabilities: AdapterCapabilities
  let keyChecks: KeyChecks
  public var fabric: String { "sim" }
  /// Called before each poll of a completion queue: who waits by polling lets time pass in it.
  public var beforePoll: (() -> Void)?
  /// False after `SimulatedNetwork.kill`.
  public private(set) var isAlive = true
  /// Until they are destroyed.
  var queuePairs: [UInt32: SimulatedQueuePair] = [:]

  init(network: SimulatedNetwork, name: String, options: Options) {
    self.network = network
    self.name = name
    keyChecks = options.keyChecks
    capabilities = AdapterCapabilities(
      hasImmediateWrite: options.hasImmediateWrite, hasImmediateSend: true,
      hasRemoteRead: options.hasRemoteRead,
      hasSharedReceiveQueue: options.hasSharedReceiveQueue,
      hasForeignMemory: options.hasForeignMemory, hasAcknowledgements: true,
      peersAreStrangers: true,
      maximumInlineByteCount: options.maximumInlineByteCount,
      maximumPrivateDataByteCount: options.maximumPrivateDataByteCount,
      maximumMessageByteCount: options.maximumMessageByteCount)
  }

  public func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    SimulatedProtectionDomain(adapter: self)
  }

  public func makeCompletionQueue(
    capacity: Int
  ) throws(ResourceError) -> any CompletionQueue {
    try QueueCapacity.check(completions: capacity)
    return SimulatedCompletionQueue(adapter: self, capacity: capacity)
  }

  public func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    guard capabilities.hasSharedReceiveQueue else {
      throw .invalidCapacity("the adapter has no shared receive queues")
    }
    try QueueCapacity.check(requests: capacity, "shared receive queue")
    guard let domain = protectionDomain as? SimulatedProtectionDomain, domain.adapter === self
    else { throw .foreignParts }
    return SimulatedSharedReceiveQueue(domain: domain, capacity: capacity)
  }

  public func makeQueuePair(
    _ attributes: QueuePairAttributes
  ) throws(ResourceError) -> any QueuePair {
    try attributes.checkCapacities()
    guard let domain = attributes.protectionDomain as? SimulatedProtectionDomain,
      let sends = attributes.sendCompletionQueue as? SimulatedCompletionQueue,
      let receives = attributes.receiveCompletionQueue as? SimulatedCompletionQueue,
      domain.adapter === self, sends.adapter === self, receives.adapter === self
    else { throw .foreignParts }
    var shared: SimulatedSharedReceiveQueue?
    if let given = attributes.sharedReceiveQueue {
      guard let known = given as? SimulatedSharedReceiveQueue, known.domain === domain else {
        throw .foreignParts
      }
      shared = known
    }
    let queuePair = SimulatedQueuePair(
      adapter: self, domain: domain, sendCompletionQueue: sends, receiveCompletionQueue: receives,
      sharedReceiveQueue: shared, sendCapacity: attributes.sendCapacity,
      receiveCapacity: attributes.receiveCapacity)
    queuePairs[queuePair.number] = queuePair
    return queuePair
  }

  public func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    SimulatedEventChannel()
  }

  public func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    guard address.fabric == fabric, let channel = events as? SimulatedEventChannel else {
      throw .invalidAddress("\(address) is not an address of the fabric \(fabric)")
    }
    guard network.listeners[address.endpoint] == nil else {
      throw .addressInUse("somebody listens at \(address) already")
    }
    let listener = SimulatedListener(adapter: self, address: address, channel: channel)
    network.listeners[address.endpoint] = listener
    return SimulatedListenerHandle(listener)
  }

  public func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard address.fabric == fabric, let channel = events as? SimulatedEventChannel else {
      throw .invalidAddress("\(address) is not an address of the fabric \(fabric)")
    }
    guard privateData.count <= capabilities.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    guard let own = queuePair as? SimulatedQueuePair, own.adapter === self,
      own.state == .initialized
    else { throw .invalidState }
    own.startConnecting(on: channel)
    let request = PendingConnection(
      client: own, address: address, privateData: privateData, network: network)
    network.schedule(after: network.randomDelay()) { request.arrive() }
    network.schedule(after: timeout) { [weak request] in
      request?.fail(.timedOut("no answer from \(address) in \(timeout)"))
    }
  }

  func die() {
    isAlive = false
    // In the order of their making: a dictionary has none that a seed would repeat.
    for queuePair in queuePairs.values.sorted(by: { $0.number < $1.number }) { queuePair.die() }
    queuePairs = [:]
    for (endpoint, listener) in network.listeners where listener.adapter === self {
      network.listeners[endpoint] = nil
      listener.channel.abandon()
    }
  }
}
