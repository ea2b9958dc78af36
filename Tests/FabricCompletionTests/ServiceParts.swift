import Dispatch
import FabricCompletion
import FabricPlatform
import FabricVerbs
import Synchronization

/// A completion queue that tests fill by hand, from any thread, with a descriptor to sleep on.
final class ManualQueue: CompletionQueue, @unchecked Sendable {
  let capacity = 1 << 20
  private let entries = Mutex<[WorkCompletion]>([])
  private let armed = Atomic(false)
  /// Whether the service sleeps on it, or is about to.
  var isArmed: Bool { armed.load(ordering: .sequentiallyConsistent) }
  private let event: EventDescriptor
  /// Called at the end of `arm` and of each poll that found nothing.
  nonisolated(unsafe) var afterArm: () -> Void = {}
  nonisolated(unsafe) var afterEmptyPoll: () -> Void = {}
  let pollCount = Atomic<Int>(0)
  private let pollers = Atomic<Int>(0)
  private let hadTwoPollers = Atomic(false)
  var mostPollers: Int { hadTwoPollers.load(ordering: .relaxed) ? 2 : 1 }

  init() throws { event = try EventDescriptor() }

  func push(_ number: UInt32, _ ids: Range<UInt64>) {
    entries.withLock { entries in
      for id in ids { entries.append(WorkCompletion(id: id, queuePairNumber: number)) }
    }
    if armed.exchange(false, ordering: .sequentiallyConsistent) { event.signal() }
  }

  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    if pollers.add(1, ordering: .relaxed).newValue > 1 {
      hadTwoPollers.store(true, ordering: .relaxed)
    }
    pollCount.add(1, ordering: .relaxed)
    let limit = completions.count
    let taken = entries.withLock { entries in
      let taken = Array(entries.prefix(limit))
      entries.removeFirst(taken.count)
      return taken
    }
    for index in taken.indices { completions[index] = taken[index] }
    if taken.isEmpty { unsafe afterEmptyPoll() }
    pollers.subtract(1, ordering: .relaxed)
    return taken.count
  }

  var descriptor: CInt? { event.descriptor.rawValue }
  func arm() {
    armed.store(true, ordering: .sequentiallyConsistent)
    unsafe afterArm()
  }
  func disarm() {
    armed.store(false, ordering: .sequentiallyConsistent)
    event.clear()
  }
}

/// A queue pair that is a number.
final class NumberedQueuePair: QueuePair, Sendable {
  let number: UInt32
  init(_ number: UInt32) { self.number = number }
  var state: QueuePairState { .readyToSend }
  func postSend(_ requests: Span<SendRequest>) throws(PostError) {}
  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {}
  func disconnect() {}
  func destroy() {}
}

/// Counts what it is given, by id.
final class CountingHandler: CompletionHandler, @unchecked Sendable {
  private let ids = Mutex<[UInt64]>([])
  let callCount = Atomic<Int>(0)
  let count = Atomic<Int>(0)
  let isStopped = Atomic(false)
  let afterStop = Atomic<Int>(0)
  var callsAfterStop: Int { afterStop.load(ordering: .relaxed) }
  let running = Atomic<Int>(0)
  nonisolated(unsafe) var onCall: (Span<WorkCompletion>) -> Void = { _ in }

  func handle(_ completions: Span<WorkCompletion>) {
    if running.add(1, ordering: .sequentiallyConsistent).newValue > 1 { fatalError("two at once") }
    if isStopped.load(ordering: .sequentiallyConsistent) {
      afterStop.add(1, ordering: .relaxed)
    }
    ids.withLock { ids in
      for index in completions.indices { ids.append(completions[index].id) }
    }
    callCount.add(1, ordering: .relaxed)
    count.add(completions.count, ordering: .relaxed)
    unsafe onCall(completions)
    running.subtract(1, ordering: .sequentiallyConsistent)
  }

  var received: [UInt64] { ids.withLock { $0 } }
}

/// Waits for another thread's doing, at most ten seconds.
func waitUntil(_ condition: () -> Bool) -> Bool {
  let deadline = MonotonicTime.now + .seconds(10)
  while !condition() {
    if MonotonicTime.now > deadline { return false }
    SystemThread.yield()
  }
  return true
}

/// Rings at a time.
final class Alarm: ProgressSource, @unchecked Sendable {
  private let rings = DispatchSemaphore(value: 0)
  private(set) var nextDeadline: MonotonicTime?

  init(at time: MonotonicTime) { nextDeadline = time }

  /// Waits for it, for so many seconds at most.
  func hasRung(within seconds: Double) -> Bool {
    rings.wait(timeout: .now() + seconds) == .success
  }

  var descriptor: CInt? { nil }
  func arm() {}
  func disarm() {}

  func progress() -> Int {
    guard let time = nextDeadline, MonotonicTime.now >= time else { return 0 }
    nextDeadline = nil
    rings.signal()
    return 1
  }
}
