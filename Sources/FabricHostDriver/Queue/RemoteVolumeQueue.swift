import FabricBounded
public import FabricCompletion
public import FabricIOProtocol
public import FabricMessaging
import FabricPlatform
public import FabricStorage
public import FabricVerbs
import Glibc

/// Told of what happens on a queue, on the thread of its completion service.
public protocol RemoteVolumeHandler: AnyObject {
  /// Requests ended; once for each batch. May submit further ones.
  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>)
  /// The connection came, went, or is given up.
  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State)
}

/// A queue of requests to a volume on an I/O unit, over one path or several: the callback face, for the
/// hot path.
///
/// It connects to every address, and when a connection is lost it connects again, each path on its own.
/// What a lost connection had under way goes on by another path, or by the next connection, once the
/// unit has fenced the old one (IO-37): whoever submitted sees a pause at most. Only its end is told,
/// after `timeout`.
///
/// Threads: confined to the thread that runs `service`. Nothing is allocated per request.
public final class RemoteVolumeQueue {
  public struct Options: Sendable {
    /// What this host calls itself, an NQN-style name of at most 64 bytes.
    public var hostName = "nqn.2024-01.org.channelfabric:host"
    /// What this host proves to be itself with, and asks the unit to prove; the host's name is then
    /// that of the key. nil: nothing is proven.
    public var key: (any ChannelKey)?
    /// Which session the connections belong to; nil: one of the queue's own. Who goes on where another
    /// process has died, with requests that may still be alive at the unit, takes its session with a greater
    /// epoch: nothing is sent before all of that has ended. (IO-14)
    public var session: HostOpening.SessionIdentifier?
    /// The first connection's epoch, from 1.
    public var firstEpoch: UInt32 = 1
    public var access = VolumeAccess.readWrite
    /// Requests that may be submitted and not ended.
    public var depth = 128
    /// Which path a request takes, where there are several; can be changed later.
    public var policy = PathPolicy.roundRobin
    /// Requests of a path's turn, where paths have turns, and as many times 4 KiB of data, whichever is over first.
    /// What goes by one path goes in long batches, which cost less; what is large is spread all the same.
    public var turnLength = 64
    /// How long to do without a connection or an answer before giving up; nil: for ever.
    public var timeout: Duration?
    /// How long requests wait while no path can be used before they end with `aborted`, as do
    /// further ones until one can again; nil: for ever. Unlike `timeout` it gives nothing up.
    public var queueTimeout: Duration?
    /// Goes on also when the very first attempt to connect fails.
    public var isPatientAtFirst = false
    /// Goes on also when an address that was the volume's has another one, or one that is smaller: it may be served
    /// there again. For devices, whose users would rather wait.
    public var isPatientWithOthers = false
    /// The longest that one attempt to connect may take. So long a first one is repeated when the
    /// unit hangs up on it.
    public var attemptTimeout: Duration = .seconds(5)
    public var backoff = Backoff()
    /// As in `ChannelOptions`: five of these without a sign of life and a connection counts as lost.
    public var heartbeat: Duration?
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
    /// The connection that it was handed to.
    var connection: UInt32 = 0
    /// Nanoseconds on the monotonic clock, coarse: when it was submitted, and handed to a path.
    var submitted: UInt64 = 0
    var sent: UInt64 = 0
    var generation: UInt16 = 0
    var path: UInt8 = 0
    var isTaken = false
    /// Handed to a connection, the end not seen.
    var isSent = false
    /// The connection that it was handed to was lost, and the unit has not fenced it yet.
    var isStranded = false
  }

  // What each request touches comes first and lies together: with many queues, lines of the cache are
  // what a request costs.
  unowned let handler: any RemoteVolumeHandler
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  /// Slots to be handed to a path, in order of submission.
  let unsent: IndexQueue
  let batch: FixedTable<BlockCompletion>
  /// What the handler is being told, while `batch` fills again.
  let reported: FixedTable<BlockCompletion>
  var batchCount = 0
  var coarseNow = MonotonicTime.now.nanoseconds
  /// Whether the clock was read since the last turn to something else.
  var isTimeFresh = false
  /// Where there is only one.
  let onlyPath: UncountedReference<VolumePath>?
  var timer: RemoteVolumeTimer?
  /// What each request asks of the state, without a copy of it.
  private var isClosed = false
  private var hasFailed = false
  /// Without a path for `queueTimeout`: requests end with `aborted` until there is one.
  public internal(set) var isRefusing = false
  /// Something that was given up is not known to be over: nothing may be sent.
  var isBarred = false
  var isReporting = false
  /// What of this object a request touches, in bytes.
  static let hotByteCount = 256

  /// Where the volume is, at the first of its paths.
  public var address: VolumeAddress { paths[0].address }
  public let options: Options
  let paths: PathTable
  var chooser: PathChooser
  public internal(set) var state = State.connecting {
    didSet {
      isClosed = if case .closed = state { true } else { false }
      hasFailed = if case .failed = state { true } else { false }
    }
  }
  /// What the unit said last; nil before the first connection.
  public internal(set) var info: RemoteVolumeInfo?
  var isConnecting: Bool { if case .connecting = state { true } else { false } }
  /// How often a lost connection was replaced.
  public internal(set) var reconnectCount = 0

  let service: CompletionService
  /// One for each fabric.
  let endpoints: [ChannelEndpoint]
  /// Made for this queue, and gone with it.
  private let ownsEndpoints: Bool
  /// Where memory for requests is registered.
  public let memoryDomain: any ProtectionDomain
  /// The same, where there are several fabrics.
  let pathMemory: PathMemory?
  /// Of each fabric but the first, the keys of regions by those of the first, as they were when
  /// `pathMemory` had changed so often.
  var otherKeys: [[UInt32: PathMemory.Keys]] = []
  var keyChangeCount: UInt64 = 0
  /// A handler that nobody else keeps alive.
  var keptHandler: (any RemoteVolumeHandler)?
  /// Slots of requests that no unit would take, still to be ended.
  let doomed: IndexQueue
  let session: HostOpening.SessionIdentifier
  /// Of the newest connections; the greatest that any has had.
  public internal(set) var epoch: UInt32
  var lastNumber: UInt8 = 0
  var lastSerial: UInt32 = 0
  /// Connections that are not known to be fenced, oldest first.
  var dead: [DeadConnection] = []
  /// Off only in tests, to see what comes of it.
  var fencesBeforeResubmit = true
  /// What waits between attempts are drawn with.
  var chance = WaitChance(SystemRandomNumberGenerator())
  /// Control calls under way, by their messages' tags.
  var pendingControls: [UInt32: PendingControl] = [:]
  var lastControl: UInt32 = 0
  /// When the last connection went, or the queue was opened.
  var lostAt = MonotonicTime.now
  /// Since then a request has ended, or none was waiting.
  var isProven = false

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
    try self.init(
      [address], adapters: [adapter], service: service, options: options, handler: handler)
  }

  /// Connects to one volume by several ways once `attach` is called.
  ///
  /// - Parameters:
  ///   - addresses: 1 to 64, of which none is there twice.
  ///   - adapters: one for each fabric of the addresses, of which at most one cannot register memory
  ///     that another made.
  ///   - service: carries the queue on; run by the caller or by its own thread.
  ///   - handler: not kept alive; must outlive `close`.
  /// - Throws: `.resources`; `.invalidOptions` for an address without an adapter.
  public convenience init(
    _ addresses: [VolumeAddress], adapters: [any Adapter], service: CompletionService,
    options: Options = .init(), handler: any RemoteVolumeHandler
  ) throws(ChannelOpenError) {
    if let lost = addresses.first(where: { address in
      !adapters.contains { $0.fabric == address.unit.fabric }
    }) {
      throw .invalidOptions("expected an adapter for the fabric of \(lost), got none")
    }
    // The first one makes the memory that is registered with all.
    let ordered =
      adapters.filter { !$0.capabilities.hasForeignMemory }
      + adapters.filter { $0.capabilities.hasForeignMemory }
    var endpoints: [ChannelEndpoint] = []
    for adapter in ordered {
      endpoints.append(try ChannelEndpoint(adapter: adapter, service: service))
    }
    self.init(addresses, over: endpoints, areOwn: true, options: options, handler: handler)
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
    self.init([address], over: [endpoint], areOwn: false, options: options, handler: handler)
  }

  private init(
    _ addresses: [VolumeAddress], over endpoints: [ChannelEndpoint], areOwn: Bool,
    options: Options, handler: any RemoteVolumeHandler
  ) {
    precondition(options.depth > 0 && options.depth <= 0x8000, "1 to 32768 requests")
    precondition(options.firstEpoch > 0, "epochs begin with 1")
    precondition(
      (1...Self.maximumPathCount).contains(addresses.count)
        && Set(addresses).count == addresses.count, "1 to 64 addresses, each once")
    self.endpoints = endpoints
    ownsEndpoints = areOwn
    service = endpoints[0].service
    self.options = options
    session = options.session ?? .random()
    epoch = options.firstEpoch &- 1
    self.handler = handler
    pathMemory = endpoints.count > 1 ? PathMemory(endpoints.map(\.protectionDomain)) : nil
    memoryDomain = pathMemory ?? endpoints[0].protectionDomain
    paths = PathTable(
      addresses.enumerated().map { index, address in
        let number = endpoints.firstIndex { $0.adapter.fabric == address.unit.fabric } ?? 0
        return VolumePath(
          address, index: index, endpoint: endpoints[number], endpointIndex: number,
          backoff: options.backoff)
      })
    onlyPath = addresses.count == 1 ? UncountedReference(paths[0]) : nil
    chooser = PathChooser(options.policy, turnLength: options.turnLength)
    slots = FixedTable(repeating: Slot(), count: options.depth)
    freeSlots = IndexPool(capacity: options.depth)
    unsent = IndexQueue(capacity: options.depth)
    doomed = IndexQueue(capacity: options.depth)
    batch = FixedTable(
      repeating: BlockCompletion(tag: 0, status: .success), count: options.depth)
    reported = FixedTable(
      repeating: BlockCompletion(tag: 0, status: .success), count: options.depth)
    timer = RemoteVolumeTimer(timeout: options.timeout, queueTimeout: options.queueTimeout)
  }

  /// The most paths of one queue.
  public static let maximumPathCount = 64

  /// Starts to connect. Requests may be submitted before and after.
  public func attach() {
    guard let timer else { return }
    lostAt = .now
    timer.queue = self
    service.add(timer)
    for path in paths.paths {
      guard case .connecting = state else { return }
      connect(path)
    }
  }

  /// Which path a request takes from now on, where there are several.
  public var policy: PathPolicy {
    get { chooser.policy }
    set { chooser.policy = newValue }
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
    slots[index].isStranded = false
    if !isTimeFresh { readClock() }
    slots[index].submitted = coarseNow
    slots[index].generation = (slots[index].generation &+ 1) & 0x7FFF
    if hasFailed || isRefusing {
      timer?.hasEnds = true
    } else if !unsent.isEmpty || !post(index) {
      unsent.push(index)
    }
    return true
  }

  /// Takes the time once for all that happens until the thread turns to something else.
  func readClock() {
    coarseNow = MonotonicTime.now.nanoseconds
    isTimeFresh = true
  }

  /// Posts what was submitted since the last time, one batch for each path.
  public func flushSubmissions() {
    isTimeFresh = false
    if let onlyPath {
      onlyPath.with { $0.channelReference?.with { $0.flush() } }
      return
    }
    flushPaths()
  }

  /// Posts what each of several paths was handed.
  ///
  /// - Parameter own: left out: the path whose channel does so itself, as it called.
  func flushPaths(but own: Int = -1) {
    for index in 0..<paths.count where index != own {
      paths.with(index) { $0.channelReference?.with { $0.flush() } }
    }
  }

  /// Closes the connections in order. Requests in flight end with `aborted` before it returns, or,
  /// when the handler calls it, right after that call.
  public func close() {
    if case .closed = state { return }
    state = .closed
    for path in paths.paths { drop(path) }
    dead = []
    endControls(ESHUTDOWN)
    endAll()
    if let timer { service.remove(timer) }
    timer?.queue = nil
    timer = nil
    if ownsEndpoints { for endpoint in endpoints { endpoint.close() } }
  }
}
