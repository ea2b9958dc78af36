import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricSimulated
import FabricVerbs
import FabricWire
import TestSupport
import Testing

/// Two channels over a simulated network, each pouring messages into the other.
private final class SimulatedPour {
  let network: SimulatedNetwork
  let service: CompletionService
  let endpoints: [ChannelEndpoint]
  let handlers = [Recorder(), Recorder()]
  var channels: [Channel?] = [nil, nil]
  let memory: [MemoryRegion]
  /// What each side sent that was taken, in order: the tag, and the bytes of its data.
  var sent: [[(tag: UInt32, byteCount: Int?)]] = [[], []]
  var random: SeededGenerator

  init(seed: UInt64, hasImmediateWrite: Bool, acceptorDelay: Duration = .zero) throws {
    random = SeededGenerator(seed: seed)
    var options = SimulatedNetwork.Options()
    options.acceptorDelay = acceptorDelay
    network = SimulatedNetwork(seed: seed, options: options)
    service = try CompletionService()
    var adapters = SimulatedAdapter.Options()
    adapters.hasImmediateWrite = hasImmediateWrite
    endpoints = try ["server", "client"].map { [network, service, adapters] name in
      try ChannelEndpoint(
        adapter: network.makeAdapter(name: name, options: adapters), service: service)
    }
    memory = try endpoints.map {
      try $0.protectionDomain.allocate(byteCount: 4096, access: .localWrite)
    }
    try open()
  }

  private func open() throws {
    var options = ChannelOptions()
    options.receiveCount = Int.random(in: 8...20, using: &random)
    options.sendCount = Int.random(in: 8...20, using: &random)
    options.bufferCount = Int.random(in: 1...3, using: &random)
    options.bufferByteCount = 4096
    let address = FabricAddress(fabric: "sim", endpoint: "here")
    let server = handlers[0]
    _ = try endpoints[0].listen(
      at: address, options: options,
      accept: { _, _ in .accept(greeting: [], handler: server) },
      opened: { [unowned self] in channels[0] = $0 })
    endpoints[1].connect(to: address, options: options, handler: handlers[1]) { [unowned self] in
      channels[1] = try? $0.get()
    }
    let isOpen = run(rounds: 100_000) { channels[0] != nil && channels[1] != nil }
    try #require(isOpen, "the channel did not open")
  }

  /// Lets events happen until `condition` holds; the rounds bound a run that stands still.
  func run(rounds: Int, _ condition: () -> Bool) -> Bool {
    for _ in 0..<rounds {
      if condition() { return true }
      network.step()
      service.turn()
    }
    return condition()
  }

  /// Sends as much as the channel takes, at most `limit` messages in all.
  func pour(_ side: Int, limit: Int) {
    guard let channel = channels[side], channel.isOpen else { return }
    while sent[side].count < limit {
      let tag = UInt32(sent[side].count)
      let hasData = random.next() & 3 == 0
      let byteCount = Int.random(in: 1...4096, using: &random)
      var refusal: SendRefusal?
      view([UInt8(truncatingIfNeeded: tag)]) {
        refusal =
          hasData
          ? channel.transfer(
            kind: 1, tag: tag, payload: $0, data: memory[side].element(byteCount: byteCount))
          : channel.send(kind: 1, tag: tag, payload: $0)
      }
      if refusal != nil { break }
      sent[side].append((tag, hasData ? byteCount : nil))
    }
    channel.flush()
  }

  /// Whether what `side` received is the beginning of what the other sent, nothing twice, nothing
  /// out of order, every transfer with all of its bytes.
  func received(by side: Int) -> (isPrefix: Bool, count: Int) {
    let got = handlers[side].messages
    let wanted = sent[1 - side]
    guard got.count <= wanted.count else { return (false, got.count) }
    for (message, expected) in zip(got, wanted) {
      guard message.tag == expected.tag, message.data?.count == expected.byteCount,
        message.payload == [UInt8(truncatingIfNeeded: expected.tag)]
      else { return (false, got.count) }
    }
    return (true, got.count)
  }
}

@Suite("Channels in simulation") struct SimulatedChannelTests {
  static let seeds: [UInt64] = [1, 2, 3, 0xFAB, .random(in: 0 ... .max)]

  @Test("MS-3: an opening that comes before this side was told of its connection is not lost")
  func early() throws {
    for seed: UInt64 in 1...5 {
      let pour = try SimulatedPour(
        seed: seed, hasImmediateWrite: true, acceptorDelay: .milliseconds(1))
      pour.pour(1, limit: 5)
      let count = pour.sent[1].count
      #expect(count > 0)
      #expect(
        pour.run(rounds: 10_000) { pour.received(by: 0).count == count }, "seed \(seed)")
    }
  }

  @Test(
    "MS-5, MS-6: with the smallest windows both sides always make progress, in order, once",
    arguments: seeds, [true, false])
  func progress(_ seed: UInt64, _ hasImmediateWrite: Bool) throws {
    let pour = try SimulatedPour(seed: seed, hasImmediateWrite: hasImmediateWrite)
    let total = 400
    let isDone = pour.run(rounds: 2_000_000) {
      pour.pour(0, limit: total)
      pour.pour(1, limit: total)
      return pour.handlers.allSatisfy { $0.messages.count == total }
    }
    for side in 0...1 {
      let (isPrefix, count) = pour.received(by: side)
      #expect(isPrefix, "seed \(seed): side \(side) got something else")
      #expect(count == total, "seed \(seed): side \(side) stands still at \(count)")
    }
    #expect(isDone && pour.network.receiverNotReadyCount == 0, "seed \(seed)")
  }

  @Test(
    "a lost connection closes both sides, and what came before is a beginning of what was sent",
    arguments: seeds, [true, false])
  func loss(_ seed: UInt64, _ hasImmediateWrite: Bool) throws {
    let pour = try SimulatedPour(seed: seed, hasImmediateWrite: hasImmediateWrite)
    let queuePair = try #require(pour.channels[0]).fabricQueuePair
    let breakAfter = Int.random(in: 1...200, using: &pour.random)
    var isBroken = false
    let isClosed = pour.run(rounds: 2_000_000) {
      pour.pour(0, limit: 1000)
      pour.pour(1, limit: 1000)
      if !isBroken && pour.handlers[1].messages.count >= breakAfter {
        isBroken = true
        pour.network.breakConnection(of: queuePair)
      }
      return pour.handlers.allSatisfy { $0.closed != nil }
    }
    #expect(isClosed, "seed \(seed): one side does not know")
    for side in 0...1 {
      let (isPrefix, _) = pour.received(by: side)
      #expect(isPrefix, "seed \(seed): side \(side) got something else")
    }
  }
}
