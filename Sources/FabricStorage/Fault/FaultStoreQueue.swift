import FabricBounded
import CFabricLinux
import FabricPlatform

/// Passes requests on under numbers of its own and holds their completions until they are due.
final class FaultStoreQueue: StoreQueue {
  /// A request between its submission and its poll.
  private struct Slot: BitwiseCopyable {
    var tag: UInt64 = 0
    var delay: UInt64 = 0
  }

  /// An ended request that waits for its time.
  private struct Held: BitwiseCopyable {
    var completion = BlockCompletion(tag: 0, status: .success)
    var due: UInt64 = 0
  }

  private let store: FaultStore
  private let base: any StoreQueue
  private let slots: FixedTable<Slot>
  private let freeSlots: IndexPool
  private let held: FixedTable<Held>
  private var heldCount = 0
  private let arrivals: CompletionBatch
  private let staged: FixedTable<BlockRequest>
  /// Readable when the queue below is, or when a held completion is due.
  private let poller: Poller
  private let timer: Descriptor

  init(store: FaultStore, base: any StoreQueue) throws(StoreError) {
    self.store = store
    self.base = base
    let depth = base.depth
    slots = FixedTable(repeating: Slot(), count: depth)
    freeSlots = IndexPool(capacity: depth)
    held = FixedTable(repeating: Held(), count: depth)
    arrivals = CompletionBatch(capacity: depth)
    staged = FixedTable(repeating: BlockRequest(.flush), count: depth)
    do throws(Errno) {
      poller = try Poller()
      timer = try Descriptor(
        result: timerfd_create(CLOCK_MONOTONIC, CInt(TFD_CLOEXEC | TFD_NONBLOCK)))
      try poller.add(timer.rawValue, tag: 0)
      if let below = base.descriptor { try poller.add(below, tag: 1) }
    } catch {
      throw .systemCall(name: "epoll or timerfd", path: "fault store", reason: error)
    }
  }

  var depth: Int { slots.count }
  var inFlightCount: Int { slots.count &- freeSlots.count }
  var descriptor: CInt? { poller.descriptor.rawValue }
  func flushSubmissions() { base.flushSubmissions() }

  func submit(_ requests: Span<BlockRequest>) -> Int {
    let count = min(requests.count, freeSlots.count)
    var stagedCount = 0
    for index in 0..<count {
      var request = requests[index]
      guard let number = freeSlots.take() else { preconditionFailure("no slot") }
      slots[number] = Slot(tag: request.tag, delay: store.delay(of: request.operation))
      request.tag = UInt64(number)
      if let status = store.failure(for: request) {
        hold(BlockCompletion(tag: request.tag, status: status))
      } else {
        staged[stagedCount] = request
        stagedCount += 1
      }
    }
    let taken = staged.withSpan(prefix: stagedCount) { base.submit($0) }
    precondition(taken == stagedCount, "the queue below is as deep as this one")
    return count
  }

  func poll(into batch: CompletionBatch) -> Int {
    arrivals.removeAll()
    _ = base.poll(into: arrivals)
    for index in 0..<arrivals.count { hold(arrivals[index]) }
    if heldCount == 0 { return 0 }
    let now = MonotonicTime.now.nanoseconds
    var moved = 0
    var index = 0
    while index < heldCount, !batch.isFull {
      let one = held[index]
      guard one.due <= now else {
        index += 1
        continue
      }
      release(one.completion, to: batch)
      moved += 1
      // Order among completions is nobody's promise, so the last fills the gap.
      heldCount -= 1
      held[index] = held[heldCount]
    }
    return moved
  }

  func arm() -> Bool {
    guard base.arm() else { return false }
    guard heldCount > 0 else {
      setTimer(nanoseconds: 0)
      return true
    }
    let now = MonotonicTime.now.nanoseconds
    let due = earliestDue
    if due <= now { return false }
    setTimer(nanoseconds: due - now)
    return true
  }

  func waitForCompletion() {
    if inFlightCount == 0 { return }
    if heldCount == 0 { return base.waitForCompletion() }
    base.flushSubmissions()
    if arm() { poller.wait(timeout: nil) { _ in } }
  }

  private var earliestDue: UInt64 {
    var due = UInt64.max
    for index in 0..<heldCount { due = min(due, held[index].due) }
    return due
  }

  private func hold(_ completion: BlockCompletion) {
    let delay = slots[Int(completion.tag)].delay
    let due = delay == 0 ? 0 : MonotonicTime.now.nanoseconds &+ delay
    held[heldCount] = Held(completion: completion, due: due)
    heldCount += 1
  }

  private func release(_ completion: BlockCompletion, to batch: CompletionBatch) {
    let number = Int(completion.tag)
    var completion = completion
    completion.tag = slots[number].tag
    freeSlots.give(number)
    batch.append(completion)
  }

  /// 0 stops the timer and clears its readability.
  private func setTimer(nanoseconds: UInt64) {
    var time = itimerspec()
    time.it_value.tv_sec = Int(nanoseconds / 1_000_000_000)
    time.it_value.tv_nsec = Int(nanoseconds % 1_000_000_000)
    _ = unsafe timerfd_settime(timer.rawValue, 0, &time, nil)
  }
}
