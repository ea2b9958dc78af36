import FabricBounded
import FabricCompletion
import FabricPlatform

/// A queue's clock: attempts to connect when it is time, gives up when time is over.
final class RemoteVolumeTimer: TimedSource {
  /// From `attach` until `close`; keeps the queue alive as long.
  var queue: RemoteVolumeQueue?
  private let timeout: Duration?
  var reconnectAt: MonotonicTime? {
    didSet { queue?.service.deadlinesHaveChanged() }
  }
  /// Requests of a queue that was given up wait for their end, or ends for their report.
  var hasEnds = false {
    didSet { if hasEnds && !oldValue { queue?.service.deadlinesHaveChanged() } }
  }
  /// How often answers are looked for that are late.
  private let interval: Duration
  private var nextCheck: MonotonicTime

  init(timeout: Duration?) {
    self.timeout = timeout
    interval = timeout.map { max(.milliseconds(10), min(.seconds(1), $0 / 8)) } ?? .seconds(1)
    nextCheck = .now + interval
  }

  func progress(at now: MonotonicTime) -> Int {
    if hasEnds { return end() }
    if let reconnectAt, now >= reconnectAt {
      self.reconnectAt = nil
      if hasTimedOut(now) { return 1 }
      queue?.connect()
      return 1
    }
    guard now >= nextCheck else { return 0 }
    nextCheck = now + interval
    return hasTimedOut(now) ? 1 : 0
  }

  var nextDeadline: MonotonicTime? {
    if hasEnds { return .now }
    guard let timeout, timeout > .zero else { return reconnectAt }
    return reconnectAt.map { min($0, nextCheck) } ?? nextCheck
  }

  private func end() -> Int {
    hasEnds = false
    guard let queue else { return 0 }
    if case .failed = queue.state { queue.endAll() } else { queue.endDoomed() }
    return 1
  }

  /// Gives the queue up when it has been without a connection, or a request without an answer, for
  /// too long.
  private func hasTimedOut(_ now: MonotonicTime) -> Bool {
    guard let queue, let timeout else { return false }
    let limit = timeout.nanoseconds
    queue.coarseNow = now.nanoseconds
    switch queue.state {
    case .connecting:
      guard now.nanoseconds(since: queue.lostAt) >= limit else { return false }
      queue.fail(.timedOut(address: queue.address, after: timeout, reason: queue.lossReason))
      return true
    case .attached:
      // Connections that open and break do not stop the clock.
      if !queue.isProven, queue.reconnectCount > 0,
        now.nanoseconds(since: queue.lostAt) >= limit &+ interval.nanoseconds
      {
        queue.fail(.timedOut(address: queue.address, after: timeout, reason: queue.lossReason))
        return true
      }
      for index in 0..<queue.slots.count where queue.slots[index].isTaken {
        let since = MonotonicTime(nanoseconds: queue.slots[index].submitted)
        guard now.nanoseconds(since: since) >= limit &+ interval.nanoseconds else { continue }
        queue.fail(.unanswered(address: queue.address, after: timeout))
        return true
      }
      return false
    case .failed, .closed: return false
    }
  }
}
