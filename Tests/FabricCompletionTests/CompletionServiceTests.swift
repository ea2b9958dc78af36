import CFabricLinux
import FabricCompletion
import FabricPlatform
import FabricVerbs
import Synchronization
import Testing

@Suite("Completion service", .serialized)
struct CompletionServiceTests {
  private func makeService(threadCount: Int = 0, budget: Int = 64) throws -> CompletionService {
    var options = CompletionService.Options()
    options.threadCount = threadCount
    options.budget = budget
    return try CompletionService(options)
  }

  @Test(
    "CS-10: each run of one queue pair's completions is one call, in order; strangers are dropped")
  func runsAreOneCall() throws {
    let service = try makeService()
    let queue = try ManualQueue()
    let handlers = (0..<2).map { _ in CountingHandler() }
    let pairs = [NumberedQueuePair(1), NumberedQueuePair(17)]
    for (pair, handler) in zip(pairs, handlers) {
      service.monitor(pair, on: queue, handler: handler)
    }
    queue.push(1, 0..<3)
    queue.push(17, 10..<12)
    queue.push(99, 0..<5)
    queue.push(1, 3..<4)
    #expect(service.turn() == 11)
    #expect(handlers[0].received == [0, 1, 2, 3])
    #expect(handlers[0].callCount.load(ordering: .relaxed) == 2)
    #expect(handlers[1].received == [10, 11])
    #expect(handlers[1].callCount.load(ordering: .relaxed) == 1)
    #expect(service.turn() == 0)
  }

  @Test("CS-10: thousands of queue pairs on one queue find their handlers, whatever their numbers")
  func manyQueuePairs() throws {
    let service = try makeService()
    let queue = try ManualQueue()
    let numbers: [UInt32] = (0..<2000).map { index in
      let number: Int = index % 2 == 0 ? index : index * 4096 + 7
      return UInt32(number)
    }
    let handlers = numbers.map { _ in CountingHandler() }
    let pairs = numbers.map { NumberedQueuePair($0) }
    for (pair, handler) in zip(pairs, handlers) {
      service.monitor(pair, on: queue, handler: handler)
    }
    for (index, number) in numbers.enumerated() {
      queue.push(number, UInt64(index)..<UInt64(index + 1))
    }
    while service.turn() > 0 {}
    for (index, handler) in handlers.enumerated() { #expect(handler.received == [UInt64(index)]) }
    for index in stride(from: 0, to: 2000, by: 2) { service.stopMonitoring(pairs[index]) }
    for number in numbers { queue.push(number, 5000..<5001) }
    while service.turn() > 0 {}
    for (index, handler) in handlers.enumerated() {
      #expect(handler.received.count == (index % 2 == 0 ? 1 : 2))
    }
  }

  @Test(
    "CS-10, CS-11: exactly one callback for each completion, with none, one and three own threads",
    arguments: [0, 1, 3])
  func exactlyOnce(_ threadCount: Int) throws {
    let service = try makeService(threadCount: threadCount)
    let queues = try (0..<4).map { _ in try ManualQueue() }
    let handlers = queues.map { _ in CountingHandler() }
    let pairs = queues.map { _ in NumberedQueuePair(3) }
    for index in queues.indices {
      service.monitor(pairs[index], on: queues[index], handler: handlers[index])
    }
    let total = 20_000
    let producers = try startThreads(2) { producer in
      var next = [UInt64](repeating: UInt64(producer) << 32, count: 4)
      for step in 0..<total / 10 {
        let index = step % 4
        queues[index].push(3, next[index]..<next[index] + 20)
        next[index] += 20
        if step % 50 == 0 { SystemThread.yield() }
      }
    }
    let isDone = {
      handlers.reduce(0) { $0 + $1.count.load(ordering: .relaxed) } >= 2 * total / 10 * 20
    }
    if threadCount == 0 {
      service.run(until: isDone, deadline: .now + .seconds(20))
    } else {
      #expect(waitUntil(isDone))
    }
    for thread in producers { thread.join() }
    service.stop()
    for (handler, queue) in zip(handlers, queues) {
      let ids = handler.received
      #expect(ids.count == total && Set(ids).count == ids.count)
      // Each producer's come in its order.
      for producer in 0..<2 as Range<UInt64> {
        let own = ids.filter { $0 >> 32 == producer }
        #expect(own == own.sorted())
      }
      #expect(queue.mostPollers == 1)
    }
  }

  @Test(
    "CS-15: what comes between draining and arming is not slept over", arguments: [true, false])
  func nothingIsSleptOver(_ comesBeforeArming: Bool) throws {
    var options = CompletionService.Options()
    options.spin = .zero
    let service = try CompletionService(options)
    let queue = try ManualQueue()
    let handler = CountingHandler()
    let pair = NumberedQueuePair(1)
    service.monitor(pair, on: queue, handler: handler)
    var pushed = 0
    // Just before arming, which it does not announce; or just after, which it does.
    let push = {
      guard pushed < 100, pushed == handler.count.load(ordering: .relaxed) else { return }
      queue.push(1, UInt64(pushed)..<UInt64(pushed + 1))
      pushed += 1
    }
    if comesBeforeArming {
      unsafe queue.afterEmptyPoll = push
    } else {
      unsafe queue.afterArm = push
    }
    let started = MonotonicTime.now
    service.run(
      until: { handler.count.load(ordering: .relaxed) == 100 }, deadline: started + .seconds(5))
    #expect(handler.received == Array(0..<100))
    #expect(MonotonicTime.now.nanoseconds(since: started) < 2_000_000_000)
  }

  @Test("CS-12: a busy queue starves no other")
  func busyQueueStarvesNoOther() throws {
    let service = try makeService(budget: 16)
    let busy = try ManualQueue()
    let quiet = try ManualQueue()
    let handlers = [CountingHandler(), CountingHandler()]
    let pairs = [NumberedQueuePair(1), NumberedQueuePair(2)]
    service.monitor(pairs[0], on: busy, handler: handlers[0])
    service.monitor(pairs[1], on: quiet, handler: handlers[1])
    // Each completion brings the next: the queue is never empty.
    unsafe handlers[0].onCall = { completions in busy.push(1, 0..<UInt64(completions.count)) }
    busy.push(1, 0..<100)
    for turn in 0..<100 {
      quiet.push(2, UInt64(turn)..<UInt64(turn + 1))
      service.turn()
      #expect(handlers[1].count.load(ordering: .relaxed) == turn + 1)
      #expect(handlers[0].count.load(ordering: .relaxed) == 16 * (turn + 1))
    }
  }

  @Test("CS-13, CS-14: nothing is called after stopMonitoring has returned", arguments: [1, 3])
  func nothingAfterStop(_ threadCount: Int) throws {
    let service = try makeService(threadCount: threadCount)
    let queues = try (0..<2).map { _ in try ManualQueue() }
    let isDone = Atomic(false)
    let producer = try SystemThread.start(name: "producer") {
      while !isDone.load(ordering: .relaxed) {
        for queue in queues {
          let polls = queue.pollCount.load(ordering: .relaxed)
          for number in 1...4 as ClosedRange<UInt32> { queue.push(number, 0..<2) }
          while queue.pollCount.load(ordering: .relaxed) == polls,
            !isDone.load(ordering: .relaxed)
          {
            SystemThread.yield()
          }
        }
      }
    }
    var calls = 0
    for turn in 0..<300 {
      let pair = NumberedQueuePair(UInt32(turn % 4 + 1))
      let handler = CountingHandler()
      for queue in queues { service.monitor(pair, on: queue, handler: SharedCount(handler)) }
      _ = waitUntil { handler.callCount.load(ordering: .relaxed) > 0 }
      service.stopMonitoring(pair)
      handler.isStopped.store(true, ordering: .sequentiallyConsistent)
      calls += handler.callCount.load(ordering: .relaxed)
      // A late call would come in the rounds that were under way, or in the next.
      for queue in queues where turn % 10 == 0 {
        let polls = queue.pollCount.load(ordering: .relaxed)
        #expect(waitUntil { queue.pollCount.load(ordering: .relaxed) >= polls + 3 })
      }
      #expect(handler.callsAfterStop == 0)
    }
    isDone.store(true, ordering: .relaxed)
    producer.join()
    service.stop()
    #expect(calls >= 300)
  }

  @Test("CS-13: a handler stops monitoring itself and others")
  func stoppingFromInside() throws {
    let service = try makeService()
    let queue = try ManualQueue()
    let pairs = (1...3).map { NumberedQueuePair($0) }
    let handlers = pairs.map { _ in CountingHandler() }
    for (pair, handler) in zip(pairs, handlers) {
      service.monitor(pair, on: queue, handler: handler)
    }
    unsafe handlers[0].onCall = { _ in
      service.stopMonitoring(pairs[0])
      service.stopMonitoring(pairs[1])
    }
    for number in [1, 2, 3, 1] as [UInt32] { queue.push(number, 0..<1) }
    while service.turn() > 0 {}
    #expect(handlers.map { $0.count.load(ordering: .relaxed) } == [1, 0, 1])
  }

  @Test("CS-16: an idle service with a hundred queues uses no processor", arguments: [1, 2])
  func idleCostsNothing(_ threadCount: Int) throws {
    let service = try makeService(threadCount: threadCount)
    let queues = try (0..<100).map { _ in try ManualQueue() }
    for queue in queues { service.add(queue) }
    #expect(waitUntil { queues.allSatisfy(\.isArmed) })
    // Beside other tests each wake-up costs more than alone: one quiet second of five will do.
    var least = (used: UInt64.max, polls: UInt64.max)
    for _ in 0..<5 where least.used >= 10_000_000 {
      let second = idleSecond(of: service, queues)
      if second.used < least.used { least = second }
    }
    service.stop()
    #expect(least.used < 10_000_000, "\(least.used) ns of an idle second")
    #expect(least.polls < 20_000)
  }

  /// Nanoseconds of processor, and polls of the first queue, in a second of the service's own clock.
  private func idleSecond(
    of service: CompletionService, _ queues: [ManualQueue]
  ) -> (used: UInt64, polls: UInt64) {
    let polls = queues[0].pollCount.load(ordering: .relaxed)
    let time = Mutex(UInt64(0))
    let probe = {
      time.withLock { $0 = 0 }
      service.execute { time.withLock { $0 = threadTime() } }
    }
    probe()
    #expect(waitUntil { time.withLock { $0 } > 0 && queues.allSatisfy(\.isArmed) })
    let first = time.withLock { $0 }
    let alarm = Alarm(at: .now + .seconds(1))
    service.add(alarm)
    #expect(alarm.hasRung(within: 10))
    service.remove(alarm)
    probe()
    #expect(waitUntil { time.withLock { $0 } > 0 })
    return (
      time.withLock { $0 } - first, UInt64(queues[0].pollCount.load(ordering: .relaxed) - polls)
    )
  }

  @Test("CS-11, CS-18: jobs run in order on the first thread, and wake it", arguments: [1, 2])
  func jobsRun(_ threadCount: Int) throws {
    let service = try makeService(threadCount: threadCount)
    let queue = try ManualQueue()
    service.add(queue)
    let seen = Mutex<[Int]>([])
    for index in 0..<100 {
      // Some come when it sleeps, or is about to.
      if index % 10 == 0 { #expect(waitUntil { queue.isArmed }) }
      service.execute { seen.withLock { $0.append(index) } }
    }
    #expect(waitUntil { seen.withLock { $0.count } == 100 })
    #expect(seen.withLock { $0 } == Array(0..<100))
    service.stop()
  }

  @Test("CS-17: a deadline ends a run that has nothing to do")
  func deadlineEndsRun() throws {
    let service = try makeService()
    let queue = try ManualQueue()
    service.add(queue)
    let started = MonotonicTime.now
    service.run(until: { false }, deadline: started + .milliseconds(50))
    let took = MonotonicTime.now.nanoseconds(since: started)
    #expect(took >= 50_000_000 && took < 2_000_000_000)
  }

  @Test("CS-13: a removed queue is not polled")
  func removedQueueIsLeftAlone() throws {
    let service = try makeService()
    let queue = try ManualQueue()
    let handler = CountingHandler()
    let pair = NumberedQueuePair(1)
    service.monitor(pair, on: queue, handler: handler)
    service.turn()
    service.remove(queue)
    let polls = queue.pollCount.load(ordering: .relaxed)
    queue.push(1, 0..<1)
    service.turn()
    #expect(queue.pollCount.load(ordering: .relaxed) == polls && polls > 0)
    #expect(handler.received.isEmpty)
  }
}

/// Passes on to a handler that is called for two queues, perhaps by two threads.
private final class SharedCount: CompletionHandler {
  private let target: CountingHandler
  init(_ target: CountingHandler) { self.target = target }

  func handle(_ completions: Span<WorkCompletion>) {
    if target.isStopped.load(ordering: .sequentiallyConsistent) {
      target.afterStop.add(1, ordering: .relaxed)
    }
    target.callCount.add(1, ordering: .relaxed)
  }
}
