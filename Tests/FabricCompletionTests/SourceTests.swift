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

  @Test("CS-21: a timer is asked in one round of 32, every other source in each")
  func timers() throws {
    let service = try CompletionService()
    let source = CountingSource(isTimer: false)
    let timer = CountingSource(isTimer: true)
    service.add(source)
    service.add(timer)
    // The first rounds come as after a sleep.
    service.turn()
    let (sources, timers) = (source.count, timer.count)
    for _ in 0..<320 { service.turn() }
    #expect(source.count - sources == 320)
    #expect(timer.count - timers == 10)
  }
}

/// Counts how often it is asked, and never has anything to do.
private final class CountingSource: ProgressSource {
  let isTimer: Bool
  private(set) var count = 0

  init(isTimer: Bool) { self.isTimer = isTimer }

  func progress() -> Int {
    count += 1
    return 0
  }

  var descriptor: CInt? { nil }
  var nextDeadline: MonotonicTime? { nil }
  func arm() {}
  func disarm() {}
}
