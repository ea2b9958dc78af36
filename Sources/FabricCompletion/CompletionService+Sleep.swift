public import FabricPlatform
import FabricVerbs
import Synchronization

extension CompletionService {
  /// Nanoseconds of spinning after which the processor is offered to others between rounds.
  private static let patience: UInt64 = 4000

  /// Runs rounds on the calling thread until `until` returns true, which is asked before each
  /// round, or `deadline` has passed. Sleeps when there is nothing to do: a condition that another
  /// thread makes true needs a `wake`.
  public func run(until: () -> Bool, deadline: MonotonicTime? = nil) {
    precondition(options.threadCount == 0, "the service has threads of its own")
    begin { context in run(context, until: until, deadline: deadline) }
  }

  func run(_ context: RoundContext, until: () -> Bool, deadline: MonotonicTime?) {
    var idleRoundCount = 0
    var idleSince: MonotonicTime?
    var busyRoundCount = 0
    while !until() {
      if round(context) > 0 {
        if let since = idleSince {
          spinLimit.arrived(afterGap: MonotonicTime.now.nanoseconds(since: since))
          idleSince = nil
        } else if idleRoundCount > 0 {
          spinLimit.arrived(afterGap: 0)
        }
        idleRoundCount = 0
        busyRoundCount &+= 1
        if let deadline, busyRoundCount & 31 == 0, MonotonicTime.now >= deadline { return }
        continue
      }
      idleRoundCount &+= 1
      // The clock costs as much as a round.
      if spinLimit.bound > 0 && idleRoundCount & 15 != 0 { continue }
      let now = MonotonicTime.now
      if let deadline, now >= deadline { return }
      let since = idleSince ?? now
      idleSince = since
      let idleTime = now.nanoseconds(since: since)
      if idleTime < spinLimit.nanoseconds {
        // Whoever would give work may wait for this very processor.
        if idleTime > Self.patience { SystemThread.yield() }
        continue
      }
      sleep(context, until: until, deadline: deadline)
    }
  }

  /// The rearm rule: arm all, look at everything once more, and only then sleep. (CS-15)
  private func sleep(_ context: RoundContext, until: () -> Bool, deadline: MonotonicTime?) {
    isSleeping.store(true, ordering: .sequentiallyConsistent)
    defer { isSleeping.store(false, ordering: .sequentiallyConsistent) }
    guard armAll(context) else { return disarmAll(context) }
    areChannelsDue = true
    if round(context) == 0 && !jobsAreWaiting && !until() {
      let timeout = timeToSleep(context, deadline: deadline)
      if timeout != .zero {
        poller.wait(timeout: timeout) { tag in
          if tag == Tag.wakeUp { wakeUp.clear() }
        }
        areChannelsDue = true
      }
    }
    disarmAll(context)
  }

  /// - Returns: false when another thread is polling a queue, so that there is no sleeping yet.
  private func armAll(_ context: RoundContext) -> Bool {
    context.enter()
    defer { context.leave() }
    let isShared = contexts.count > 1
    // By index: an iterator is made anew for each sleep.
    for index in 0..<queueReferences.count {
      let isArmed = queueReferences[index].with { served in
        guard served.tryClaim(isShared: isShared) else { return false }
        served.queue.arm()
        served.giveBack()
        return true
      }
      guard isArmed else { return false }
    }
    for index in 0..<sourceReferences.count { sourceReferences[index].with { $0.source.arm() } }
    return true
  }

  private func disarmAll(_ context: RoundContext) {
    context.enter()
    defer { context.leave() }
    let isShared = contexts.count > 1
    for index in 0..<queueReferences.count {
      queueReferences[index].with { served in
        // Who holds the claim polls the queue; it stays armed, which does no harm.
        guard served.tryClaim(isShared: isShared) else { return }
        served.queue.disarm()
        served.giveBack()
      }
    }
    for index in 0..<sourceReferences.count { sourceReferences[index].with { $0.source.disarm() } }
    areTimersDue = true
  }

  /// Nil: until something happens.
  private func timeToSleep(_ context: RoundContext, deadline: MonotonicTime?) -> Duration? {
    context.enter()
    defer { context.leave() }
    var limit = deadline
    if let next = timedSources.nextDeadline() { limit = limit.map { min($0, next) } ?? next }
    for index in 0..<sourceReferences.count {
      guard let next = sourceReferences[index].with({ $0.source.nextDeadline }) else { continue }
      limit = limit.map { min($0, next) } ?? next
    }
    var longest: Duration?
    // What has no descriptor must be looked at; channels must be called for their time-outs.
    if hasSilentParts {
      longest = .milliseconds(1)
    } else if !channels.isEmpty {
      longest = .milliseconds(500)
    }
    guard let limit else { return longest }
    let left = Duration.nanoseconds(Int64(clamping: limit.nanoseconds(since: .now)))
    return longest.map { min($0, left) } ?? left
  }
}
