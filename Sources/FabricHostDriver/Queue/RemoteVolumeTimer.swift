import FabricBounded
import FabricCompletion
import FabricPlatform

/// A queue's clock: attempts to connect when it is time, gives up when time is over.
final class RemoteVolumeTimer: TimedSource {
  /// From `attach` until `close`; keeps the queue alive as long.
  var queue: RemoteVolumeQueue?
  private let timeout: Duration?
  private let queueTimeout: Duration?
  /// Requests of a queue that was given up wait for their end, or ends for their report.
  var hasEnds = false {
    didSet { if hasEnds && !oldValue { queue?.service.deadlinesHaveChanged() } }
  }
  /// How often answers are looked for that are late.
  private let interval: Duration
  private var nextCheck: MonotonicTime
  /// Since when no path can be used, as far as was looked.
  private var pathlessSince: MonotonicTime?

  init(timeout: Duration?, queueTimeout: Duration?) {
    self.timeout = timeout
    self.queueTimeout = queueTimeout
    let shortest = [timeout, queueTimeout].compactMap { $0 }.min()
    interval = shortest.map { max(.milliseconds(10), min(.seconds(1), $0 / 8)) } ?? .seconds(1)
    nextCheck = .now + interval
  }

  func progress(at now: MonotonicTime) -> Int {
    if hasEnds { return end() }
    guard let queue else { return 0 }
    var count = 0
    let paths = queue.paths.paths
    for index in paths.indices {
      let path = paths[index]
      guard let due = path.reconnectAt, now >= due else { continue }
      path.reconnectAt = nil
      count += 1
      if hasTimedOut(now) { return count }
      queue.connect(path)
    }
    guard now >= nextCheck else { return count }
    nextCheck = now + interval
    return hasTimedOut(now) ? count + 1 : count
  }

  var nextDeadline: MonotonicTime? {
    if hasEnds { return .now }
    var next = timeout ?? .zero > .zero || queueTimeout != nil ? nextCheck : nil
    guard let paths = queue?.paths.paths else { return next }
    // By index: an iterator is an allocation where nothing is optimised.
    for index in paths.indices {
      guard let due = paths[index].reconnectAt else { continue }
      next = next.map { min($0, due) } ?? due
    }
    return next
  }

  private func end() -> Int {
    hasEnds = false
    guard let queue else { return 0 }
    if case .failed = queue.state {
      queue.endAll()
    } else if queue.isRefusing {
      queue.endAll()
    } else {
      queue.endDoomed()
    }
    return 1
  }

  /// Has the queue refuse requests when no path could be used for `queueTimeout`.
  private func refuseIfPathless(_ queue: RemoteVolumeQueue, _ now: MonotonicTime) {
    guard let queueTimeout, queue.info != nil else { return }
    if queue.paths.paths.contains(where: \.isUsable) {
      pathlessSince = nil
      return
    }
    let since = pathlessSince ?? (queue.isConnecting ? queue.lostAt : now)
    pathlessSince = since
    if !queue.isRefusing, now.nanoseconds(since: since) >= queueTimeout.nanoseconds {
      queue.refuseWaiting()
    }
  }

  /// Gives the queue up when it has been without a connection, or a request without an answer, for
  /// too long.
  private func hasTimedOut(_ now: MonotonicTime) -> Bool {
    guard let queue else { return false }
    refuseIfPathless(queue, now)
    guard let timeout else { return false }
    let limit = timeout.nanoseconds
    switch queue.state {
    case .connecting:
      guard now.nanoseconds(since: queue.lostAt) >= limit else { return false }
      queue.fail(
        .timedOut(
          address: queue.address, after: timeout, reason: queue.paths[0].lossReason))
      return true
    case .attached:
      // Connections that open and break do not stop the clock.
      if !queue.isProven, queue.reconnectCount > 0,
        now.nanoseconds(since: queue.lostAt) >= limit &+ interval.nanoseconds
      {
        queue.fail(
          .timedOut(
            address: queue.address, after: timeout, reason: queue.paths[0].lossReason))
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
