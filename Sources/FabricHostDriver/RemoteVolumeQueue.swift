import FabricBounded
public import FabricCompletion
import FabricIOProtocol
public import FabricMessaging
import FabricPlatform
public import FabricStorage
public import FabricVerbs

/// Told of what happens on a queue, on the thread of its completion service.
public protocol RemoteVolumeHandler: AnyObject {
  /// Requests ended; once for each batch. May submit further ones.
  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>)
  /// The connection came, went, or is given up.
  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State)
}

/// A queue of requests to a volume on an I/O unit: the callback face, for the hot path.
///
/// It connects, and when the connection is lost it connects again with a greater epoch, waits
/// until the unit has fenced the old connection, and sends what was not acknowledged once more
/// (IO-37): whoever submitted sees a pause. Only its end is told, after `timeout`.
///
/// Threads: confined to the thread that runs `service`. Nothing is allocated per request.
public final class RemoteVolumeQueue {
  public struct Options: Sendable {
    /// What this host calls itself, an NQN-style name of at most 64 bytes.
    public var hostName = "nqn.2024-01.org.channelfabric:host"
    /// What this host proves to be itself with, and asks the unit to prove; the host's name is then
    /// that of the key. nil: nothing is proven.
    public var key: (any ChannelKey)?
    public var access = VolumeAccess.readWrite
    /// Requests that may be submitted and not ended.
    public var depth = 128
    /// How long to do without a connection or an answer before giving up; nil: for ever.
    public var timeout: Duration?
    /// Goes on also when the very first attempt to connect fails.
    public var isPatientAtFirst = false
    /// The longest that one attempt to connect may take. So long a first one is repeated when the
    /// unit hangs up on it.
    public var attemptTimeout: Duration = .seconds(5)
    public var backoff = Backoff()
    /// Told of losses and attempts, one line each.
    public var log: @Sendable (String) -> Void = { _ in }

    public init() {}
  }

  /// Where the queue stands.
  public enum State: Sendable {
    /// On the way to a connection.
    case connecting
    /// Requests reach the unit.
    case attached(RemoteVolumeInfo)
    /// Given up: every request ends with `aborted`.
    case failed(RemoteVolumeError)
    case closed
  }

  /// A request's place in the table.
  struct Slot: BitwiseCopyable {
    var request = RemoteRequest(.flush)
    /// Lent to the unit for this request's data; 0: none.
    var loan = RemoteKey(rawValue: 0)
    /// Nanoseconds on the monotonic clock, coarse.
    var submitted: UInt64 = 0
    var generation: UInt16 = 0
    var isTaken = false
    /// Handed to the channel, the end not seen.
    var isSent = false
  }

  // What each request touches comes first and lies together: with many queues, lines of the cache are
  // what a request costs.
  unowned let handler: any RemoteVolumeHandler
  let protectionDomain: any ProtectionDomain
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  /// Slots to be handed to the channel, in order of submission.
  let unsent: IndexQueue
  let batch: FixedTable<BlockCompletion>
  /// What the handler is being told, while `batch` fills again.
  let reported: FixedTable<BlockCompletion>
  var batchCount = 0
  var sentCount = 0
  /// The unit's limit to `sentCount`.
  var sentLimit = 0
  var coarseNow = MonotonicTime.now.nanoseconds
  /// `channel`, for each request.
  private(set) var channelReference: UncountedReference<Channel>?
  var timer: RemoteVolumeTimer?
  /// Whether the unit gets a key for one read at a time, and for no more than that.
  let lendsKeys: Bool
  /// What each request asks of the state, without a copy of it.
  private var isClosed = false
  private var hasFailed = false
  var isReporting = false
  /// The unit's `ready` has come on `channel`.
  var isReady = false
  /// A request has ended on `channel`, or none was waiting when it opened.
  var isProven = false
  /// What of this object a request touches, in bytes.
  static let hotByteCount = 256

  public let address: VolumeAddress
  public let options: Options
  public internal(set) var state = State.connecting {
    didSet {
      isClosed = if case .closed = state { true } else { false }
      hasFailed = if case .failed = state { true } else { false }
    }
  }
  /// What the unit said last; nil before the first connection.
  public internal(set) var info: RemoteVolumeInfo?
  /// How often a lost connection was replaced.
  public internal(set) var reconnectCount = 0

  let service: CompletionService
  let endpoint: ChannelEndpoint
  /// Made for this queue, and gone with it.
  private let ownsEndpoint: Bool
  /// A handler that nobody else keeps alive.
  var keptHandler: (any RemoteVolumeHandler)?
  /// Slots of requests that no unit would take, still to be ended.
  let doomed: IndexQueue
  let session = HostOpening.SessionIdentifier.random()
  var epoch: UInt32 = 0
  var channel: Channel? {
    didSet { channelReference = channel.map { UncountedReference($0) } }
  }
  var link: Link?
  var backoff: Backoff
  /// When the last connection went, or the queue was opened.
  var lostAt = MonotonicTime.now
  var lossReason = "no connection was made yet"

  /// Connects once `attach` is called.
  ///
  /// - Parameters:
  ///   - service: carries the queue on; run by the caller or by its own thread.
  ///   - handler: not kept alive; must outlive `close`.
  /// - Throws: `.resources`.
  public convenience init(
    _ address: VolumeAddress, adapter: any Adapter, service: CompletionService,
    options: Options = .init(), handler: any RemoteVolumeHandler
  ) throws(ChannelOpenError) {
    self.init(
      address, over: try ChannelEndpoint(adapter: adapter, service: service), isOwn: true,
      options: options, handler: handler)
  }

  /// Connects once `attach` is called, over an endpoint that it shares with others: what many queues
  /// of one process do, so that a look at them all costs one system call, and not one each. Memory of
  /// `allocate` stays until the endpoint goes.
  ///
  /// - Parameters:
  ///   - endpoint: carries the queue on with its service, of the address's fabric; not closed with it.
  ///   - handler: not kept alive; must outlive `close`.
  public convenience init(
    _ address: VolumeAddress, endpoint: ChannelEndpoint, options: Options = .init(),
    handler: any RemoteVolumeHandler
  ) {
    self.init(address, over: endpoint, isOwn: false, options: options, handler: handler)
  }

  private init(
    _ address: VolumeAddress, over endpoint: ChannelEndpoint, isOwn: Bool, options: Options,
    handler: any RemoteVolumeHandler
  ) {
    precondition(options.depth > 0 && options.depth <= 0x8000, "1 to 32768 requests")
    self.address = address
    self.endpoint = endpoint
    ownsEndpoint = isOwn
    service = endpoint.service
    self.options = options
    self.handler = handler
    protectionDomain = endpoint.protectionDomain
    lendsKeys = endpoint.adapter.capabilities.peersAreStrangers
    slots = FixedTable(repeating: Slot(), count: options.depth)
    freeSlots = IndexPool(capacity: options.depth)
    unsent = IndexQueue(capacity: options.depth)
    doomed = IndexQueue(capacity: options.depth)
    batch = FixedTable(
      repeating: BlockCompletion(tag: 0, status: .success), count: options.depth)
    reported = FixedTable(
      repeating: BlockCompletion(tag: 0, status: .success), count: options.depth)
    backoff = options.backoff
    timer = RemoteVolumeTimer(timeout: options.timeout)
  }

  /// Starts to connect. Requests may be submitted before and after.
  public func attach() {
    guard let timer else { return }
    lostAt = .now
    timer.queue = self
    service.add(timer)
    connect()
  }

  /// Memory for requests of this queue, zeroed and page-aligned. Lives as long as the region.
  public func allocate(byteCount: Int) throws(RegistrationError) -> MemoryRegion {
    let region = try endpoint.protectionDomain.allocate(
      byteCount: byteCount, access: [.localWrite, .remoteWrite])
    // Strangers get a key for each read, and nothing that outlives it.
    if lendsKeys, let key = region.remoteKey { endpoint.protectionDomain.revoke(key) }
    return region
  }

  /// Brings near what a request's end and the next one will touch, beside the object itself.
  func prefetchTables() {
    unsafe prefetch(slots.address, byteCount: MemoryLayout<Slot>.stride)
    unsafe prefetch(freeSlots.address, byteCount: 64)
    unsafe prefetch(unsent.address, byteCount: 64)
    unsafe prefetch(batch.address, byteCount: 64)
    unsafe prefetch(reported.address, byteCount: 64)
  }

  /// Requests that may be submitted now.
  public var freeCount: Int { freeSlots.count }
  /// Requests submitted and not ended.
  public var inFlightCount: Int { options.depth - freeSlots.count }

  /// Takes a request; it ends once, in a later call of the handler.
  ///
  /// Outside the handler's calls `flushSubmissions` must follow, before the thread turns to
  /// something else.
  ///
  /// - Returns: false when `depth` are in flight, or the queue is closed.
  @discardableResult
  public func submit(_ request: RemoteRequest) -> Bool {
    if isClosed { return false }
    guard let index = freeSlots.take() else { return false }
    slots[index].request = request
    slots[index].isTaken = true
    slots[index].isSent = false
    slots[index].submitted = coarseNow
    slots[index].generation = (slots[index].generation &+ 1) & 0x7FFF
    if hasFailed {
      timer?.hasEnds = true
    } else if !unsent.isEmpty || !post(index) {
      unsent.push(index)
    }
    return true
  }

  /// Posts what was submitted since the last time, as one batch.
  public func flushSubmissions() { channel?.flush() }

  /// Closes the connection in order. Requests in flight end with `aborted` before it returns, or,
  /// when the handler calls it, right after that call.
  public func close() {
    if case .closed = state { return }
    state = .closed
    dropLink()
    endAll()
    if let timer { service.remove(timer) }
    timer?.queue = nil
    timer = nil
    if ownsEndpoint { endpoint.close() }
  }
}
