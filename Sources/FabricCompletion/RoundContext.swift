import FabricPlatform
import FabricVerbs
import Synchronization

/// What one thread of the service keeps between rounds.
@safe
final class RoundContext {
  let worker: GateWorker
  /// Who runs rounds with it now; 0 when nobody does.
  let thread = Atomic<UInt64>(0)
  /// Read and written by `thread` alone.
  var isInside = false
  let budget: Int
  let buffer: UnsafeMutablePointer<WorkCompletion>
  /// The queue where the next round starts, so that each comes first in turn.
  var firstQueue = 0
  /// What this thread was using when it changed something from inside; kept to the round's end.
  private var keptAlive: [AnyObject] = []
  private(set) var keepsAlive = false
  var currentQueue: UncountedReference<ServedQueue>?
  var currentMonitor: UncountedReference<Monitor>?
  /// Queues that had something in the last round.
  var busyQueueCount = 0

  init(gate: Gate, budget: Int) {
    worker = gate.makeWorker()
    self.budget = budget
    unsafe buffer = .allocate(capacity: budget)
    unsafe buffer.initialize(repeating: WorkCompletion(), count: budget)
  }

  deinit { unsafe buffer.deallocate() }

  func enter() {
    worker.enter()
    isInside = true
  }

  func leave() {
    isInside = false
    worker.leave()
  }

  /// Before others may change what this thread is using.
  func keepCurrentAlive() {
    if let currentQueue { keepAlive(currentQueue.object) }
    if let currentMonitor { keepAlive(currentMonitor.object) }
  }

  func keepAlive(_ object: AnyObject) {
    keptAlive.append(object)
    keepsAlive = true
  }

  /// At the end of a round.
  func letGo() {
    keptAlive.removeAll()
    keepsAlive = false
  }
}

/// When to stop spinning and sleep: follows the gaps between arrivals, within a bound.
struct SpinLimit {
  /// Nanoseconds; 0 never spins.
  let bound: UInt64
  /// Moving average of the gaps, each cut at 16 bounds.
  private var averageGap: UInt64

  init(bound: UInt64) {
    self.bound = bound
    averageGap = bound
  }

  mutating func arrived(afterGap gap: UInt64) {
    averageGap = (averageGap &* 7 &+ min(gap, bound &* 16)) / 8
  }

  /// Nanoseconds to spin now: all of the bound where the next arrival is likely within a few of
  /// it, else none. A gap as long as a sleep and a wake-up on both sides must not count as rare, or
  /// two sleepers would keep each other asleep; hence the factor 8. Going to sleep interrupts the
  /// other processors, so a pause of a few gaps is no reason to.
  var nanoseconds: UInt64 { averageGap > bound &* 8 ? 0 : bound }
}
