import FabricSimulated
import FabricVerbs
import Testing

/// Two connected queue pairs and a record of what came out of them.
private final class Link {
  let network: SimulatedNetwork
  let client: SimulatedAdapter
  let server: SimulatedAdapter
  let queues: [any CompletionQueue]
  let channels: [any ConnectionEventChannel]
  let queuePairs: [any QueuePair]
  let listener: any Listener
  var trace: [String] = []
  var ended = 0
  var disconnects: [DisconnectReason] = []

  init(seed: UInt64, options: SimulatedNetwork.Options = .init()) throws {
    network = SimulatedNetwork(seed: seed, options: options)
    client = network.makeAdapter(name: "client")
    server = network.makeAdapter(name: "server")
    let adapters = [client, server]
    queues = try adapters.map { try $0.makeCompletionQueue(capacity: 512) }
    channels = try adapters.map { try $0.makeEventChannel() }
    var made: [any QueuePair] = []
    for (adapter, queue) in zip(adapters, queues) {
      made.append(
        try adapter.makeQueuePair(
          QueuePairAttributes(
            protectionDomain: adapter.makeProtectionDomain(), sendCompletionQueue: queue,
            receiveCompletionQueue: queue)))
    }
    queuePairs = made
    let address = FabricAddress(fabric: "sim", endpoint: "here")
    listener = try server.listen(at: address, events: channels[1])
    try client.connect(
      queuePairs[0], to: address, privateData: [], timeout: .seconds(1), events: channels[0])
  }

  func poll() throws {
    for (side, channel) in channels.enumerated() {
      while let event = channel.poll() {
        switch event {
        case .connectRequest(let request):
          try request.accept(queuePairs[1], privateData: [], events: channels[1])
        case .disconnected(_, let reason): disconnects.append(reason)
        default: break
        }
        trace.append("\(network.now) \(side) event")
      }
    }
    for (side, queue) in queues.enumerated() {
      var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 8)
      var space = buffer.mutableSpan
      let count = queue.poll(into: &space)
      ended += count
      for index in 0..<count {
        trace.append("\(network.now) \(side) \(buffer[index].id) \(buffer[index].status)")
      }
    }
  }

  func runUntilQuiet() throws {
    while network.step() { try poll() }
    for _ in 0..<200 { try poll() }
  }

  func work(_ count: UInt64) throws {
    while queuePairs.contains(where: { $0.state != .readyToSend }) && network.step() { try poll() }
    for id in 0..<count {
      let receive = [ReceiveRequest(id: id, elements: ScatterGatherList())]
      try queuePairs[1].postReceive(receive.span)
      let send = [SendRequest(id: id, opcode: .send, elements: ScatterGatherList())]
      try queuePairs[0].postSend(send.span)
    }
    try runUntilQuiet()
  }
}

@Suite("Simulated network")
struct SimulatedNetworkTests {
  @Test("the same seed gives the same history, another seed another")
  func seedsReplay() throws {
    var traces: [[String]] = []
    for seed in [5, 5, 6] as [UInt64] {
      let link = try Link(seed: seed)
      try link.work(100)
      #expect(link.ended == 200)
      traces.append(link.trace)
    }
    #expect(traces[0] == traces[1])
    #expect(traces[0] != traces[2])
  }

  @Test("lost connections end each request once, on both sides")
  func lossesEndEverything() throws {
    var options = SimulatedNetwork.Options()
    options.lossesPerMillion = 100_000
    var lossCount = 0
    for seed in 0..<100 as Range<UInt64> {
      let link = try Link(seed: seed, options: options)
      try link.work(100)
      #expect(link.ended == 200, "seed \(seed)")
      if link.disconnects.isEmpty { continue }
      lossCount += 1
      #expect(
        link.disconnects == .init(repeating: .failure("the connection was lost"), count: 2),
        "seed \(seed)")
      #expect(link.queuePairs.allSatisfy { $0.state == .error }, "seed \(seed)")
    }
    #expect(lossCount > 10 && lossCount < 100)
  }

  @Test("a message without a receive is counted and waits")
  func receiverNotReadyIsCounted() throws {
    let link = try Link(seed: 1)
    try link.work(1)
    #expect(link.network.receiverNotReadyCount == 0)
    let send = [SendRequest(id: 1, opcode: .send, elements: ScatterGatherList())]
    try link.queuePairs[0].postSend(send.span)
    try link.runUntilQuiet()
    #expect(link.network.receiverNotReadyCount == 1)
    #expect(link.ended == 2)
    let receive = [ReceiveRequest(id: 1, elements: ScatterGatherList())]
    try link.queuePairs[1].postReceive(receive.span)
    try link.runUntilQuiet()
    #expect(link.ended == 4)
  }

  @Test("time passes exactly as told")
  func timeIsVirtual() {
    let network = SimulatedNetwork(seed: 1)
    #expect(!network.step())
    network.advance(by: .seconds(3600))
    #expect(network.now == .seconds(3600))
  }
}
