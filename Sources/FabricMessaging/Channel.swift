public import FabricCompletion
import FabricPlatform
public import FabricVerbs
import FabricWire

/// A two-way, push-push message channel over one queue pair (S8).
///
/// Either side starts a transfer without being asked: small messages are sent into posted
/// receives, larger data is written into buffers that the other side advertised, or straight to
/// where it asked for it. Nobody reads from the peer.
///
/// Messages of one channel arrive once and in order, and the data of a transfer or push is in
/// place before its message is seen. Threads: everything on the thread of the channel's
/// completion service; see `AsyncChannel` for other threads.
@safe
public final class Channel: CompletionHandler, @unchecked Sendable {
  enum Phase {
    /// Waiting for the fabric.
    case connecting
    /// The initiator waits for `opened`, the acceptor for `open`.
    case opening
    case open
    /// `close` was called; waiting for the peer to hang up.
    case closing
    case closed
  }

  /// What to do when the opening ends; one side each.
  enum Role {
    case initiator((Result<Channel, ChannelOpenError>) -> Void)
    case acceptor(
      decide: ([UInt8], ChannelPeer) -> AcceptDecision, opened: (Channel) -> Void,
      refused: (ChannelPeer, String) -> Void)
  }

  // What each message touches comes first and lies together, within the 256 bytes that the completion
  // service brings near: with many channels, lines of the cache are what a message costs. What is public is computed: a stored public property costs a check
  // at each use.
  let queuePair: any QueuePair
  /// The handler for calls that count no references; kept alive by `heldHandler`.
  private(set) var handlerReference: Unmanaged<HeldHandler>?
  let memory: ChannelMemory
  let inlineMessages: InlineMessages
  let credit: SendCredit
  let ownBuffers: OwnBuffers
  var peerBuffers = PeerBuffers(count: 0, address: 0, byteCount: 0)
  let scratch: ChannelScratch
  let tokens: UnsafeMutablePointer<SendToken>
  let pending: UnsafeMutablePointer<SendRequest>
  var pendingCount = 0
  /// Receives of messages that `resumeMessages` posts again.
  let heldReceives: UnsafeMutablePointer<ReceiveRequest>
  var heldReceiveCount = 0
  var payloadLimit = 0
  var bufferLimit = 0
  /// Sends in all.
  var sentCount: UInt64 = 0
  /// Where the next send's message and token lie; goes round.
  var nextSlot = 0
  /// Sends whose end is known; what they used is free.
  var endedCount: UInt64 = 0
  /// The slot of the oldest send under way.
  var oldestSlot = 0
  var unsignaledCount = 0
  /// Every so many sends one is signalled, a quarter of the send queue: its end tells that of all
  /// before it.
  let signalInterval: Int
  /// Those of `options`.
  let sendCapacity: Int
  let receiveCapacity: Int
  var repostedCount: UInt32 = 0
  var toldCount: UInt32 = 0
  var peerBufferKey = RemoteKey(rawValue: 0)
  var phase = Phase.connecting
  /// Of messages that came before the fabric told that it is connected.
  var earlyCompletions: [WorkCompletion] = []
  let hasImmediateWrite: Bool
  var usesImmediate = false
  var wasRefused = false
  var isHandling = false
  var holdsReceives = false
  // Life signs.
  var hasSentSinceBeat = false
  var hasHeardSinceBeat = false

  var silentBeatCount = 0
  /// Between beats; of both sides', once the channel is open.
  var interval: Duration
  var deadline: MonotonicTime?
  let service: CompletionService
  let options: ChannelOptions
  /// Who the other end is.
  public internal(set) var peer: ChannelPeer
  var role: Role?
  /// Who is called; nil once nobody is.
  var handler: (any ChannelHandler)? {
    unsafe handlerReference == nil ? nil : heldHandler?.handler
  }
  private var heldHandler: HeldHandler?

  /// The queue pair beneath, for its number in logs and for faults in tests; not to be posted to.
  public var fabricQueuePair: any QueuePair { queuePair }

  /// Where memory for this channel's sends is allocated.
  public let domain: any ProtectionDomain

  /// What the peer passed in its opening.
  public internal(set) var peerGreeting: [UInt8] = []
  /// Bytes of data that one transfer may carry; 0 when the peer advertised no buffers.
  public var peerBufferByteCount: Int { bufferLimit }
  /// Bytes of payload that one small message may carry.
  public var maximumPayloadByteCount: Int { payloadLimit }
  public var isOpen: Bool { phase == .open }

  /// Until the channel is finished; the timer keeps the channel alive as long.
  var timer: ChannelTimer?
  /// What was said for the proofs of keys; nil without keys.
  var exchange: KeyExchange?
  /// The name that an initiator gave, before it is proven.
  var claimedName: String?
  /// What a broken opening is told to the user with.
  var openFailure: ChannelOpenError?

  /// A class around the handler, so that a call can refer to it without counting.
  final class HeldHandler {
    let handler: any ChannelHandler
    /// The handler's place.
    let reference: UncountedReference<AnyObject>

    init(_ handler: any ChannelHandler) {
      self.handler = handler
      reference = UncountedReference(handler)
    }
  }

  /// A user's mark on a send.
  struct SendToken: BitwiseCopyable {
    var value: UInt64
    var isSet: Bool
  }

  init(
    service: CompletionService, queuePair: any QueuePair, memory: ChannelMemory,
    scratch: ChannelScratch, options: ChannelOptions, capabilities: AdapterCapabilities,
    peer: ChannelPeer, role: Role,
    handler: (any ChannelHandler)?
  ) {
    self.service = service
    self.queuePair = queuePair
    self.memory = memory
    domain = memory.domain
    self.scratch = scratch
    self.options = options
    interval = options.heartbeat
    sendCapacity = options.sendCount
    receiveCapacity = options.receiveCount
    hasImmediateWrite = capabilities.hasImmediateWrite
    inlineMessages = InlineMessages(fabricLimit: capabilities.maximumInlineByteCount)
    self.peer = peer
    // The opening, and with keys what goes before it.
    credit = SendCredit(initial: options.key == nil && options.keys == nil ? 1 : 2)
    self.role = role
    ownBuffers = OwnBuffers(count: options.bufferCount)
    signalInterval = max(1, options.sendCount / 4)
    unsafe tokens = .allocate(capacity: options.sendCount)
    // A transfer without immediates takes two requests.
    unsafe pending = .allocate(capacity: options.sendCount * 2)
    unsafe heldReceives = .allocate(capacity: options.receiveCount)
    if let handler { setHandler(handler) }
  }

  deinit {
    unsafe tokens.deallocate()
    unsafe pending.deallocate()
    unsafe heldReceives.deallocate()
  }

  func setHandler(_ handler: any ChannelHandler) {
    let held = HeldHandler(handler)
    heldHandler = held
    unsafe handlerReference = .passUnretained(held)
  }

  /// Nobody is called any more.
  func clearHandler() {
    unsafe handlerReference = nil
    releaseHandler()
  }

  /// Lets a handler go that is called no more, but not while it is running.
  func releaseHandler() {
    if unsafe handlerReference == nil && !isHandling { heldHandler = nil }
  }

  /// Gives a received transfer's buffer back to the peer. In any order; traps when it is not
  /// held.
  public func returnBuffer(_ id: UInt16) {
    ownBuffers.giveBack(id)
    if !isHandling { tellCreditIfDue() }
  }

  /// Ends the channel in order: what was sent before arrives. `closed` follows.
  /// (MS-10)
  public func close() {
    guard phase == .open else {
      if phase != .closed && phase != .closing { finish(.local) }
      return
    }
    queueControl(.close)
    flush()
    phase = .closing
    deadline = .now + .seconds(1)
    timer?.reschedule(self)
  }

  // MARK: Ending

  /// The one way to the end: tells the user once, then lets everything go.
  func finish(_ reason: ChannelCloseReason) {
    guard phase != .closed else { return }
    let wasOpen = phase == .open || phase == .closing
    let wasOpening = phase == .opening
    phase = .closed
    let role = self.role
    self.role = nil
    let handler = self.handler
    clearHandler()
    let service = self.service
    timer?.remove(self)
    timer = nil
    queuePair.disconnect()
    // Not now: this may run inside a poll's callback.
    service.execute { [self] in
      service.stopMonitoring(queuePair)
      queuePair.destroy()
      memory.release()
    }
    switch role {
    case .initiator(let completed)?:
      completed(
        .failure(
          openFailure ?? .lost("the connection ended before the channel was open: \(reason)")))
    case .acceptor(_, _, let refused)?:
      if wasOpening, options.keys != nil, reason != .local {
        refused(peer, told(reason.description))
      }
    case nil:
      if wasOpen { handler?.channel(self, closed: reason) }
    }
  }
}
