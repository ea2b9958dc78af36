import FabricCompletion
import FabricHostDriver
import FabricPlatform

/// A queue's clock: attempts to connect when it is time, aborts what has waited too long, ends what has
/// no message.
final class I2OVolumeTimer: TimedSource {
  private weak var queue: I2OVolumeQueue?
  private let timeout: Duration?
  private let interval: Duration
  private let start = MonotonicTime.now
  private var nextCheck: MonotonicTime
  var lastReason = "no connection was made yet"
  var connectAt: MonotonicTime? {
    didSet { queue?.service.deadlinesHaveChanged() }
  }
  /// Requests wait for their end.
  var hasEnds = false {
    didSet { if hasEnds && !oldValue { queue?.service.deadlinesHaveChanged() } }
  }

  init(queue: I2OVolumeQueue) {
    self.queue = queue
    timeout = queue.options.timeout
    interval = timeout.map { max(.milliseconds(10), min(.seconds(1), $0 / 8)) } ?? .seconds(1)
    nextCheck = .now + interval
  }

  func progress(at now: MonotonicTime) -> Int {
    guard let queue else { return 0 }
    if hasEnds {
      hasEnds = false
      if case .failed = queue.state { queue.endAll() } else { queue.endDoomed() }
      return 1
    }
    if let connectAt, now >= connectAt {
      self.connectAt = nil
      if !hasTimedOut(queue, now) { queue.connect() }
      return 1
    }
    guard now >= nextCheck else { return 0 }
    nextCheck = now + interval
    queue.coarseNow = now.nanoseconds
    if hasTimedOut(queue, now) { return 1 }
    if let timeout, case .attached = queue.state {
      queue.lookForLate(at: now, limit: timeout.nanoseconds)
    }
    return 0
  }

  var nextDeadline: MonotonicTime? {
    if hasEnds { return .now }
    guard let timeout, timeout > .zero else { return connectAt }
    return connectAt.map { min($0, nextCheck) } ?? nextCheck
  }

  /// Without a first connection for too long.
  private func hasTimedOut(_ queue: I2OVolumeQueue, _ now: MonotonicTime) -> Bool {
    guard let timeout, case .connecting = queue.state,
      now.nanoseconds(since: start) >= timeout.nanoseconds
    else { return false }
    queue.fail(.timedOut(address: queue.address, after: timeout, reason: lastReason))
    return true
  }
}
