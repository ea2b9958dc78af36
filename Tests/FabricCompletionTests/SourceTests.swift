import FabricCompletion
import FabricPlatform
import FabricSimulated
import FabricVerbs
import Synchronization
import Testing

/// Something to do at a time, or when told by a descriptor.
private final class TestSource: ProgressSource {
  let event: EventDescriptor
  var nextDeadline: MonotonicTime?
  var doneCount = 0
  let armCount = Atomic<Int>(0)
  let isSignalled = Atomic(false)

  init() throws { event = try EventDescriptor() }

  var descriptor: CInt? { event.descriptor.rawValue }
  func arm() { armCount.add(1, ordering: .releasing) }
  func disarm() {}

  func progress() -> Int {
    var isDue = isSignalled.exchange(false, ordering: .acquiring)
    if isDue { event.clear() }
    if let deadline = nextDeadline, MonotonicTime.now >= deadline {
      nextDeadline = nil
      isDue = true
    }
    if isDue { doneCount += 1 }
    return isDue ? 1 : 0
  }
}

@Suite("Completion service: sources and events", .serialized)
struct SourceTests {
  @Test("CS-17: a source's deadline ends a sleep, no sooner than it must")
  func deadlineWakes() throws {
    let service = try CompletionService()
    let source = try TestSource()
    service.add(source)
    let started = MonotonicTime.now
    source.nextDeadline = started + .milliseconds(60)
    let used = threadTime()
    service.run(until: { source.doneCount == 1 }, deadline: started + .seconds(5))
    let took = MonotonicTime.now.nanoseconds(since: started)
    #expect(source.doneCount == 1 && source.armCount.load(ordering: .relaxed) > 0)
    #expect(took >= 60_000_000 && took < 2_000_000_000)
    #expect(threadTime() - used < 30_000_000, "it did not sleep")
    service.remove(source)
    source.nextDeadline = .now
    service.turn()
    #expect(source.doneCount == 1)
  }

  @Test("CS-17: a source's descriptor ends a sleep")
  func descriptorWakes() throws {
    let service = try CompletionService()
    let source = try TestSource()
    service.add(source)
    nonisolated(unsafe) let shared = source
    let thread = try SystemThread.start(name: "signal") {
      // It sleeps, or is about to.
      _ = waitUntil { unsafe shared.armCount.load(ordering: .acquiring) > 0 }
      unsafe shared.isSignalled.store(true, ordering: .releasing)
      unsafe shared.event.signal()
    }
    let started = MonotonicTime.now
    service.run(until: { source.doneCount == 1 }, deadline: started + .seconds(5))
    thread.join()
    #expect(source.doneCount == 1)
    #expect(MonotonicTime.now.nanoseconds(since: started) < 2_000_000_000)
  }

  @Test("CS-19: connection events and completions of a simulated fabric reach their handlers")
  func simulatedConnection() throws {
    let service = try CompletionService()
    let network = SimulatedNetwork(seed: 3)
    let adapters = [network.makeAdapter(name: "client"), network.makeAdapter(name: "server")]
    let address = FabricAddress(fabric: "sim", endpoint: "here")
    let channels = try adapters.map { try $0.makeEventChannel() }
    let queues = try adapters.map { try $0.makeCompletionQueue(capacity: 64) }
    let pairs = try zip(adapters, queues).map { adapter, queue in
      try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: adapter.makeProtectionDomain(), sendCompletionQueue: queue,
          receiveCompletionQueue: queue))
    }
    let handlers = [CountingHandler(), CountingHandler()]
    var establishedCount = 0
    for side in 0..<2 {
      service.monitor(pairs[side], on: queues[side], handler: handlers[side])
      service.add(channels[side]) { event in
        switch event {
        case .connectRequest(let request):
          try? request.accept(pairs[1], privateData: [], events: channels[1])
        case .established: establishedCount += 1
        default: break
        }
      }
    }
    let listener = try adapters[1].listen(at: address, events: channels[1])
    try adapters[0].connect(
      pairs[0], to: address, privateData: [], timeout: .seconds(1), events: channels[0])
    while establishedCount < 2 && network.step() { service.turn() }
    #expect(establishedCount == 2)
    let receive = [ReceiveRequest(id: 5, elements: ScatterGatherList())]
    try pairs[1].postReceive(receive.span)
    let send = [SendRequest(id: 6, opcode: .send, elements: ScatterGatherList())]
    try pairs[0].postSend(send.span)
    while network.step() { service.turn() }
    service.turn()
    #expect(handlers[0].received == [6] && handlers[1].received == [5])
    listener.close()
  }

  @Test("CS-21: a timed source is called when its time has come, and otherwise left alone")
  func timers() throws {
    let service = try CompletionService()
    let (quiet, due) = (Timer(nil), Timer(.now))
    service.add(quiet)
    service.add(due)
    service.turn()
    #expect(due.times.count == 1 && quiet.times.isEmpty)
    for _ in 0..<320 { service.turn() }
    #expect(due.times.count == 1, "it had no further deadline")

    let deadline = MonotonicTime.now + .milliseconds(20)
    quiet.nextDeadline = deadline
    service.deadlinesHaveChanged()
    while MonotonicTime.now < deadline { service.turn() }
    let early = quiet.times.count
    for _ in 0..<32 { service.turn() }
    #expect(early <= 1 && quiet.times.count == 1, "at most 32 rounds late")
    #expect(quiet.times.allSatisfy { $0 >= deadline }, "called too soon")
  }

  @Test("CS-17, CS-21: a timed source ends a sleep in time, and may remove itself when called")
  func timerWakes() throws {
    let service = try CompletionService()
    let deadline = MonotonicTime.now + .milliseconds(60)
    let (first, second) = (Timer(deadline), Timer(deadline))
    first.whenCalled = { service.remove(first) }
    service.add(first)
    service.add(second)
    let used = threadTime()
    service.run(until: { !second.times.isEmpty }, deadline: .now + .seconds(5))
    #expect(first.times.count == 1 && second.times.count == 1)
    #expect(second.times.allSatisfy { $0 >= deadline })
    #expect(threadTime() - used < 30_000_000, "it did not sleep")
    first.nextDeadline = .now
    service.deadlinesHaveChanged()
    service.turn()
    #expect(first.times.count == 1, "it was removed")
  }
}

/// Notes when it is called.
private final class Timer: TimedSource {
  var nextDeadline: MonotonicTime?
  var whenCalled: () -> Void = {}
  private(set) var times: [MonotonicTime] = []

  init(_ deadline: MonotonicTime?) { nextDeadline = deadline }

  func progress(at now: MonotonicTime) -> Int {
    times.append(now)
    nextDeadline = nil
    whenCalled()
    return 1
  }
}
