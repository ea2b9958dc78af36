import FabricPlatform
public import FabricVerbs
import Synchronization

/// Collects the completions of many queues, each of one adapter, and hands them to the handlers of
/// their queue pairs; runs what else needs carrying on; sleeps when there is nothing to do.
///
/// With `threadCount` 0 the caller's thread does the work in `turn` or `run`, one thread at a
/// time. With 1 the service has a thread of its own. With more, each takes the completion queues
/// that no other is polling; sources, events and jobs are always the first thread's.
///
/// Threads: `add`, `remove`, `monitor`, `stopMonitoring`, `execute` and `wake` come from any
/// thread, from handlers, too. They wait for running handlers: the caller holds no lock that a
/// handler takes. After a removal returns nothing of what was removed is called again; called from
/// inside a handler, a call that is already running on another thread may still be ending.
@safe
public final class CompletionService: @unchecked Sendable {
  public struct Options: Sendable {
    /// Completions taken from one queue in one round.
    public var budget = 64
    /// The most time to look for work before sleeping; the real time follows the gaps between
    /// arrivals. Does not apply when there are fewer processors than pollers: no spinning then.
    public var spin: Duration = .microseconds(50)
    /// Threads of the service's own; 0: the caller's thread does the work.
    public var threadCount = 0
    /// The available processor to bind the first own thread to, the next the second and so on.
    public var processor: Int?
    /// The node of this machine that own threads run near to, where `processor` names none: that of the device
    /// whose queues they poll (`Adapter.numaNode`). Without effect on a machine with one node.
    public var numaNode: Int?

    public init() {}
  }

  let options: Options
  let gate = Gate()
  let contexts: [RoundContext]
  /// The most nanoseconds to spin.
  let spinBound: UInt64

  // Changed under the gate, used inside it.
  private(set) var queues: [ServedQueue] = []
  /// The same, for iteration without reference counting.
  private(set) var queueReferences: [UncountedReference<ServedQueue>] = []
  private(set) var sources: [any ProgressSource] = []
  /// The sources again, for rounds that count no references.
  private(set) var sourceReferences: [UncountedReference<ServedSource>] = []
  private var servedSources: [ServedSource] = []
  var timedSources = TimedSources()
  private(set) var channels: [ServedChannel] = []
  private var monitored: [ObjectIdentifier: [(queue: ServedQueue, number: UInt32)]] = [:]
  private var watchCounts: [CInt: Int] = [:]
  /// Something is watched that cannot wake a sleeper.
  private(set) var hasSilentParts = false
  private(set) var hasChannels = false

  // Jobs
  private let jobs = Mutex<[@Sendable () -> Void]>([])
  private let hasJobs = Atomic(false)

  // Sleeping
  let poller: Poller
  let wakeUp: EventDescriptor
  let isSleeping = Atomic(false)
  let isStopping = Atomic(false)
  let followerWord = Atomic<UInt32>(0)
  let sleepingFollowerCount = Atomic<Int>(0)
  private var threads: [SystemThread] = []

  // The first thread's.
  var spinLimit: SpinLimit
  var roundCount: UInt64 = 0
  var lastChannelPoll = MonotonicTime(nanoseconds: 0)
  var areChannelsDue = true
  /// The service has slept, or a deadline has changed: the clock is read in the next round.
  var areTimersDue = true

  /// - Throws: `.system` when the descriptors to sleep on or the threads cannot be had.
  public init(_ options: Options = .init()) throws(ResourceError) {
    precondition(options.budget > 0 && options.threadCount >= 0, "a budget and a number of threads")
    self.options = options
    let pollerCount = max(1, options.threadCount)
    let canSpin = Processor.availableCount > 1 && Processor.availableCount >= pollerCount
    spinBound = canSpin ? options.spin.nanoseconds : 0
    spinLimit = SpinLimit(bound: spinBound)
    let gate = gate
    contexts = (0..<pollerCount).map { _ in RoundContext(gate: gate, budget: options.budget) }
    do {
      poller = try Poller()
      wakeUp = try EventDescriptor()
      try poller.add(wakeUp.descriptor.rawValue, tag: Tag.wakeUp)
      threads = []
    } catch { throw .system(error, doing: "making the descriptors of a completion service") }
    for index in 0..<options.threadCount {
      do {
        threads.append(try startThread(index))
      } catch {
        stop()
        throw .system(error, doing: "starting a thread of a completion service")
      }
    }
  }

  deinit { stop() }

  /// What the poller's events are about.
  enum Tag {
    static let queue: UInt64 = 0
    static let wakeUp: UInt64 = 1
    static let channel: UInt64 = 2
  }

  /// An event channel and who is told.
  final class ServedChannel {
    let events: any ConnectionEventChannel
    let handle: (ConnectionEvent) -> Void
    init(_ events: any ConnectionEventChannel, _ handle: @escaping (ConnectionEvent) -> Void) {
      self.events = events
      self.handle = handle
    }
  }

  // MARK: Queues and queue pairs

  /// Watches `queue` from now on. No effect when it is watched already.
  public func add(_ queue: any CompletionQueue) {
    change {
      guard served(queue) == nil else { return }
      queues.append(ServedQueue(queue))
      watch(queue.descriptor, tag: Tag.queue)
      refresh()
    }
    wake()
  }

  /// Watches `queue` no longer and forgets who monitors it.
  public func remove(_ queue: any CompletionQueue) {
    var removed: ServedQueue?
    change {
      guard let served = served(queue) else { return }
      removed = served
      queues.removeAll { $0 === served }
      for (key, entries) in monitored {
        let rest = entries.filter { $0.queue !== served }
        monitored[key] = rest.isEmpty ? nil : rest
      }
      unwatch(queue.descriptor)
      refresh()
    }
    if let removed { waitForHandlers(of: [removed]) }
  }

  /// Gives the completions of `queuePair` on `queue` to `handler`, which is kept alive until
  /// `stopMonitoring`. Watches `queue` if it was not. To be called before anything is posted:
  /// completions of queue pairs that nobody monitors are dropped.
  public func monitor(
    _ queuePair: any QueuePair, on queue: any CompletionQueue, handler: any CompletionHandler
  ) {
    let number = queuePair.number
    let monitor = Monitor(handler)
    var replaced: ServedQueue?
    change {
      let known = served(queue)
      let served = known ?? ServedQueue(queue)
      if known == nil {
        queues.append(served)
        watch(queue.descriptor, tag: Tag.queue)
        refresh()
      }
      served.setMonitor(monitor, of: number)
      let key = ObjectIdentifier(queuePair)
      if monitored[key, default: []].contains(where: { $0.queue === served }) {
        replaced = served
      } else {
        monitored[key, default: []].append((served, number))
      }
    }
    if let replaced { waitForHandlers(of: [replaced]) }
    wake()
  }

  /// Gives no more completions of `queuePair` to anybody, on any queue: when it returns, its
  /// handlers are not called again.
  public func stopMonitoring(_ queuePair: any QueuePair) {
    var entries: [(queue: ServedQueue, number: UInt32)] = []
    change {
      entries = monitored.removeValue(forKey: ObjectIdentifier(queuePair)) ?? []
      for entry in entries { entry.queue.removeMonitor(of: entry.number) }
    }
    waitForHandlers(of: entries.map(\.queue))
  }

  // MARK: Sources and events

  /// Carries `source` on from now on, on the first thread.
  public func add(_ source: any ProgressSource) {
    change {
      guard !sources.contains(where: { $0 === source }) else { return }
      sources.append(source)
      servedSources.append(ServedSource(source))
      referToSources()
      watch(source.descriptor, tag: Tag.queue)
    }
    wake()
  }

  public func remove(_ source: any ProgressSource) {
    change {
      guard let index = sources.firstIndex(where: { $0 === source }) else { return }
      sources.remove(at: index)
      // A source may remove itself while it is being called: it lives until the round ends.
      let served = servedSources.remove(at: index)
      if contexts[0].thread.load(ordering: .relaxed) == SystemThread.currentIdentity {
        contexts[0].keepAlive(served)
      }
      referToSources()
      unwatch(source.descriptor)
    }
  }

  private func referToSources() {
    sourceReferences = servedSources.map { UncountedReference($0) }
  }

  /// Calls `source` when its time has come, from now on, on the first thread.
  public func add(_ source: any TimedSource) {
    change {
      timedSources.add(source)
      areTimersDue = true
    }
    wake()
  }

  public func remove(_ source: any TimedSource) {
    change {
      // It may remove itself while it is being called.
      if let removed = timedSources.remove(source),
        contexts[0].thread.load(ordering: .relaxed) == SystemThread.currentIdentity
      {
        contexts[0].keepAlive(removed)
      }
    }
  }

  /// Polls `events` about every millisecond while busy and whenever its descriptor is readable;
  /// `handle` is called on the first thread.
  public func add(
    _ events: any ConnectionEventChannel, _ handle: @escaping (ConnectionEvent) -> Void
  ) {
    change {
      guard !channels.contains(where: { $0.events === events }) else { return }
      channels.append(ServedChannel(events, handle))
      watch(events.descriptor, tag: Tag.channel)
      refresh()
    }
    wake()
  }

  public func remove(_ events: any ConnectionEventChannel) {
    change {
      guard let index = channels.firstIndex(where: { $0.events === events }) else { return }
      channels.remove(at: index)
      unwatch(events.descriptor)
      refresh()
    }
  }

  // MARK: Jobs and life

  /// Runs `job` on the first thread, soon. Jobs run in the order given.
  public func execute(_ job: @escaping @Sendable () -> Void) {
    jobs.withLock { $0.append(job) }
    // Sequentially consistent: either this side sees the sleeper or the sleeper sees the job.
    hasJobs.store(true, ordering: .sequentiallyConsistent)
    if isSleeping.load(ordering: .sequentiallyConsistent) { wake() }
  }

  /// Ends a sleep in `run`, so that it looks at its condition again.
  public func wake() { wakeUp.signal() }

  /// Runs the jobs that were given before, then ends and joins the service's own threads; no effect
  /// without. Not from one of them.
  public func stop() {
    if threads.isEmpty { return }
    isStopping.store(true, ordering: .sequentiallyConsistent)
    wake()
    wakeFollowers(count: .max)
    for thread in threads { thread.join() }
    threads = []
  }

  func runJobs() -> Int {
    guard hasJobs.load(ordering: .relaxed) else { return 0 }
    hasJobs.store(false, ordering: .sequentiallyConsistent)
    let taken = jobs.withLock { waiting in
      let taken = waiting
      waiting.removeAll(keepingCapacity: true)
      return taken
    }
    for job in taken { job() }
    return taken.count
  }

  var jobsAreWaiting: Bool { hasJobs.load(ordering: .sequentiallyConsistent) }

  // MARK: Changes

  /// Keeps an object until the round ends that the calling handler is part of; nothing outside of
  /// one. For who lets go of what callers up the stack use without counting.
  public func keepToRoundEnd(_ object: AnyObject) { callingContext?.keepAlive(object) }

  /// Runs `body` while no thread of the service is inside a round.
  private func change(_ body: () -> Void) {
    guard let context = callingContext else { return gate.update(body) }
    context.keepCurrentAlive()
    context.leave()
    gate.update(body)
    context.enter()
  }

  /// The context whose round called what is running now; nil outside.
  private var callingContext: RoundContext? {
    let caller = SystemThread.currentIdentity
    return contexts.first { $0.thread.load(ordering: .relaxed) == caller && $0.isInside }
  }

  /// A handler that changes something leaves the gate for that, so the gate alone does not tell
  /// that it has returned. From inside a handler there is no waiting: two could wait for each
  /// other.
  private func waitForHandlers(of queues: [ServedQueue]) {
    guard callingContext == nil else { return }
    for queue in queues { queue.waitForHolder() }
  }

  private func served(_ queue: any CompletionQueue) -> ServedQueue? {
    queues.first { $0.queue === queue }
  }

  private func refresh() {
    queueReferences = queues.map { UncountedReference($0) }
    hasChannels = !channels.isEmpty
    hasSilentParts =
      queues.contains { $0.queue.descriptor == nil }
      || channels.contains { $0.events.descriptor == nil }
  }

  private func watch(_ descriptor: CInt?, tag: UInt64) {
    guard let descriptor else { return }
    watchCounts[descriptor, default: 0] += 1
    if watchCounts[descriptor] == 1 { try? poller.add(descriptor, tag: tag) }
  }

  private func unwatch(_ descriptor: CInt?) {
    guard let descriptor, let count = watchCounts[descriptor] else { return }
    watchCounts[descriptor] = count == 1 ? nil : count - 1
    if count == 1 { poller.remove(descriptor) }
  }
}
