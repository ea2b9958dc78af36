import FabricPlatform
import FabricVerbs
import Synchronization

extension CompletionService {
  /// One round on the calling thread: jobs, completions, sources, and from time to time connection
  /// events. Never sleeps. (CS-10 to CS-12)
  ///
  /// - Returns: how much there was to do: completions, events, jobs and what sources report.
  @discardableResult
  public func turn() -> Int {
    precondition(options.threadCount == 0, "the service has threads of its own")
    return begin { context in round(context) }
  }

  /// Makes the calling thread the first thread for the length of `body`.
  func begin<Result>(_ body: (RoundContext) -> Result) -> Result {
    let context = contexts[0]
    precondition(
      context.thread.exchange(SystemThread.currentIdentity, ordering: .acquiring) == 0,
      "a second thread, or a handler, runs the service")
    context.worker.moveToCallingThread()
    defer { context.thread.store(0, ordering: .releasing) }
    return body(context)
  }

  /// A round of the first thread.
  func round(_ context: RoundContext) -> Int {
    roundCount &+= 1
    var count = runJobs()
    context.enter()
    count &+= serveQueues(context)
    var index = 0
    while index < sourceReferences.count {
      count &+= sourceReferences[index].with { $0.source.progress() }
      index &+= 1
    }
    // The clock costs as much as a poll: it is read in some rounds only.
    let isClockRound = roundCount & 31 == 0
    if isClockRound || areTimersDue { count &+= runTimers() }
    if hasChannels && (hasSilentParts || areChannelsDue || isClockRound) {
      count &+= pollChannels()
    }
    context.leave()
    if context.keepsAlive { context.letGo() }
    if context.busyQueueCount > 1 && sleepingFollowerCount.load(ordering: .relaxed) > 0 {
      wakeFollowers(count: 1)
    }
    return count
  }

  /// Polls each queue that no other thread polls, once, and dispatches what came. (CS-11)
  func serveQueues(_ context: RoundContext) -> Int {
    let isShared = contexts.count > 1
    var served = 0
    var busy = 0
    var step = 0
    // Handlers may change the list: it is looked at afresh in each step.
    while step < queueReferences.count {
      let total = queueReferences.count
      let index = (context.firstQueue &+ step) % total
      step &+= 1
      let reference = queueReferences[index]
      guard reference.with({ $0.tryClaim(isShared: isShared) }) else {
        continue
      }
      let count = reference.with { queue in
        context.currentQueue = reference
        let count = serve(queue, in: context)
        context.currentQueue = nil
        queue.giveBack()
        return count
      }
      served &+= count
      if count > 0 { busy &+= 1 }
    }
    context.firstQueue = context.firstQueue &+ 1 & 0xFFFF
    context.busyQueueCount = busy
    return served
  }

  private func serve(_ served: ServedQueue, in context: RoundContext) -> Int {
    let buffer = unsafe context.buffer
    var space = unsafe MutableSpan(_unsafeStart: buffer, count: context.budget)
    let count = served.queue.poll(into: &space)
    var start = 0
    while start < count {
      let number = unsafe buffer[start].queuePairNumber
      var end = start &+ 1
      while unsafe end < count && buffer[end].queuePairNumber == number { end &+= 1 }
      if end < count {
        unsafe prepare(served, Span(_unsafeStart: buffer + end, count: count &- end))
      }
      if let monitor = served.monitor(of: number) {
        let run = unsafe Span(_unsafeStart: buffer + start, count: end &- start)
        context.currentMonitor = monitor
        monitor.with { $0.handler.handle(run) }
        context.currentMonitor = nil
      }
      start = end
    }
    return count
  }

  /// Brings near whom the next completions are for, the next but few first of all: with many queue
  /// pairs their handlers have left the cache since their last turn. Of a handler itself that is its
  /// first 256 bytes.
  @inline(__always)
  private func prepare(_ served: ServedQueue, _ next: Span<WorkCompletion>) {
    if next.count > 9 {
      served.monitor(of: next[9].queuePairNumber)?.prefetch(byteCount: 64)
    }
    if next.count > 7 {
      served.monitor(of: next[7].queuePairNumber)?.with { $0.reference.prefetch(byteCount: 256) }
    }
    if next.count > 5 {
      served.monitor(of: next[5].queuePairNumber)?.with { $0.handler.prepare(.parts) }
    }
    if next.count > 3 {
      served.monitor(of: next[3].queuePairNumber)?.with { $0.handler.prepare(.contents) }
    }
    if next.count > 1 {
      served.monitor(of: next[1].queuePairNumber)?.with { $0.handler.prepare(.user) }
    }
    served.monitor(of: next[0].queuePairNumber)?.with { $0.handler.prepare(.userContents) }
  }

  private func pollChannels() -> Int {
    if !hasSilentParts && !areChannelsDue {
      let now = MonotonicTime.now
      guard now.nanoseconds(since: lastChannelPoll) >= 1_000_000 else { return 0 }
      lastChannelPoll = now
    }
    areChannelsDue = false
    var count = 0
    var index = 0
    while index < channels.count {
      let channel = channels[index]
      index &+= 1
      while let event = channel.events.poll() {
        channel.handle(event)
        count &+= 1
        // The handler may have removed the channel.
        if !channels.contains(where: { $0 === channel }) { break }
      }
    }
    return count
  }
}
