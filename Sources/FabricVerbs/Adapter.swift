/// What an adapter can and cannot do; the contract suite asks.
public struct AdapterCapabilities: Equatable, Sendable {
  public var hasImmediateWrite: Bool
  /// Sends may carry immediate data; iWARP's cannot.
  public var hasImmediateSend: Bool
  public var hasRemoteRead: Bool
  public var hasSharedReceiveQueue: Bool
  /// Memory that the protection domain did not allocate may be registered.
  public var hasForeignMemory: Bool
  /// The success of a send or write tells that the peer's adapter has taken it. Without, it tells
  /// that the memory may be used again: the peer may still refuse, and then the connection ends
  /// with its reason. (iWARP: RFC 5040 section 5.5)
  public var hasAcknowledgements: Bool
  /// A message that finds no receive waits for one. Without, it ends the connection.
  /// (RFC 5041 section 7.1 lets iWARP do so)
  public var sendsWaitForReceives: Bool
  /// Where a request is refused that has succeeded, the connection's end says why. Without, it may look like
  /// the peer's disconnect: the kernel's iWARP keeps a terminate message to itself.
  public var hasRefusalReasons: Bool
  /// The death of the peer's process is told as such. Without, as its disconnect: where the kernel connects, it
  /// also hangs up for those who have died.
  public var tellsDeath: Bool
  /// Peers may be of other users and machines: keys are best lent for a transfer at a time.
  public var peersAreStrangers: Bool
  /// Remote keys are drawn at random. A device numbers them: who knows one may guess others.
  public var hasUnguessableKeys: Bool
  /// A key can be granted to the peer of one queue pair alone; without, to all of the domain's.
  public var hasKeysOfOneConnection: Bool
  /// Bytes of a request with `.inline`.
  public var maximumInlineByteCount: Int
  /// Bytes of private data in connect, accept and reject.
  public var maximumPrivateDataByteCount: Int
  /// Bytes of one message or write.
  public var maximumMessageByteCount: Int
  /// The capacity of a completion queue.
  public var maximumCompletionCount: Int

  public init(
    hasImmediateWrite: Bool, hasImmediateSend: Bool, hasRemoteRead: Bool,
    hasSharedReceiveQueue: Bool, hasForeignMemory: Bool, hasAcknowledgements: Bool,
    sendsWaitForReceives: Bool = true, hasRefusalReasons: Bool = true,
    tellsDeath: Bool = true, peersAreStrangers: Bool, hasUnguessableKeys: Bool = true,
    hasKeysOfOneConnection: Bool = true, maximumInlineByteCount: Int,
    maximumPrivateDataByteCount: Int,
    maximumMessageByteCount: Int, maximumCompletionCount: Int = .max
  ) {
    self.hasImmediateWrite = hasImmediateWrite
    self.hasImmediateSend = hasImmediateSend
    self.hasRemoteRead = hasRemoteRead
    self.hasSharedReceiveQueue = hasSharedReceiveQueue
    self.hasForeignMemory = hasForeignMemory
    self.hasAcknowledgements = hasAcknowledgements
    self.sendsWaitForReceives = sendsWaitForReceives
    self.hasRefusalReasons = hasRefusalReasons
    self.tellsDeath = tellsDeath
    self.peersAreStrangers = peersAreStrangers
    self.hasUnguessableKeys = hasUnguessableKeys
    self.hasKeysOfOneConnection = hasKeysOfOneConnection
    self.maximumInlineByteCount = maximumInlineByteCount
    self.maximumPrivateDataByteCount = maximumPrivateDataByteCount
    self.maximumMessageByteCount = maximumMessageByteCount
    self.maximumCompletionCount = maximumCompletionCount
  }
}

/// One way into a fabric: makes everything else. Parts of different adapters do not mix.
///
/// Threads: all calls may come from any thread. The corresponding C type is `ibv_context`.
public protocol Adapter: AnyObject, Sendable {
  /// The fabric's name in addresses: `shm`, `tcp`, `rdma`, `sim`.
  var fabric: String { get }
  var capabilities: AdapterCapabilities { get }
  /// The node of this machine that the adapter's device is near to: its own memory lies there, and threads that poll its
  /// queues run best there. nil where all nodes are alike, as for adapters without a device.
  var numaNode: Int? { get }

  func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain
  func makeCompletionQueue(capacity: Int) throws(ResourceError) -> any CompletionQueue
  func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue
  func makeQueuePair(_ attributes: QueuePairAttributes) throws(ResourceError) -> any QueuePair
  func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel

  /// Starts to listen; requests arrive as events.
  func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener

  /// Starts to connect a queue pair in the state `initialized`; `established` or `failed` follows
  /// on `events`, at the latest after `timeout`.
  func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError)
}

extension Adapter {
  public var numaNode: Int? { nil }
}
