import FabricCompletion
import FabricI2O
import FabricI2OHost
import FabricMessaging
import FabricSimulated
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

/// A server and a host over a simulated network, which one seed drives.
private final class SimulatedUnit {
  let network: SimulatedNetwork
  let service: CompletionService
  let server: I2OServer
  let host: RawHost
  static let piece = 4096

  init(seed: UInt64, hasImmediateWrite: Bool, bufferCount: Int) throws {
    let network = SimulatedNetwork(seed: seed)
    let service = try CompletionService()
    self.network = network
    self.service = service
    var adapterOptions = SimulatedAdapter.Options()
    adapterOptions.hasImmediateWrite = hasImmediateWrite
    let layer = CommonLayer()
    try layer.add(Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 20)))
    var options = I2OServer.Options()
    options.readBufferCount = bufferCount
    options.bufferCount = 4
    options.depth = 64
    let adapter = network.makeAdapter(name: "unit", options: adapterOptions)
    server = try elsewhere({ service.turn() }, wake: { service.wake() }) { [options] in
      try I2OServer(
        layer: layer, service: service, adapter: adapter,
        addresses: [FabricAddress(fabric: "sim", endpoint: "unit")], options: options)
    }
    host = try RawHost(
      to: FabricAddress(fabric: "sim", endpoint: "unit"),
      adapter: network.makeAdapter(name: "host", options: adapterOptions), service: service,
      turn: {
        network.step()
        service.turn()
      })
  }

  deinit {
    let (service, network, server) = (service, network, server)
    try? elsewhere(
      {
        network.step()
        service.turn()
      }, wake: { service.wake() }
    ) { server.stop() }
  }

  /// Lets everything happen that will, until `condition` holds.
  func run(_ condition: () -> Bool) -> Bool {
    for _ in 0..<200_000 {
      if condition() { return true }
      network.step()
      service.turn()
    }
    return condition()
  }
}

@Suite("I2O: over a simulated network", .untilStuck)
struct SimulatedTests {
  /// Reads and aborts in any order and at any time. Each has one reply; of an aborted read no byte is at
  /// the host, of another all are when its reply is seen.
  @Test(
    "IT-43, IT-61, IT-62: a read against its abort has one reply, which never overtakes its data",
    arguments: 1...30 as ClosedRange<UInt64>)
  func races(_ seed: UInt64) throws {
    print("I2O abort races: seed \(seed)")
    var random = SeededGenerator(seed: seed)
    let unit = try SimulatedUnit(
      seed: seed, hasImmediateWrite: seed % 2 == 0,
      bufferCount: Int.random(in: 2...6, using: &random))
    let host = unit.host
    host.send(RequestFrame.outboundInit(wordTo: host.piece(0, 4)).bytes)
    #expect(unit.run { host.arrivals.count == 1 })
    let device: UInt16 = 8
    let data = [UInt8](repeating: 0x5A, count: 4096)
    let write = host.transfer(
      device, 0, 4096, 1000, [ScatterElement(.attached, byteCount: 4096)], isWrite: true)
    host.send(write, data: data)
    #expect(unit.run { host.replies(to: 1000) == [.success(transferCount: 4096)] })
    var reads: Set<UInt32> = []
    var aborts: Set<UInt32> = []
    var checked = 1
    var next: UInt32 = 1
    /// Looks at what has come since the last time: data must be there with its reply.
    func check() {
      for arrival in host.arrivals[min(checked, host.arrivals.count)...] {
        guard case .reply(let context, let reply) = arrival, reads.contains(context) else {
          continue
        }
        let bytes = host.bytes(Int(context) * SimulatedUnit.piece, SimulatedUnit.piece)
        let expected: UInt8 = reply == .success(transferCount: 4096) ? 0x5A : 0
        #expect(bytes.allSatisfy { $0 == expected }, "seed \(seed), read \(context): \(reply)")
      }
      checked = host.arrivals.count
    }
    for _ in 0..<200 {
      if Int.random(in: 0..<3, using: &random) > 0, next < 100 {
        let place = Int(next) * SimulatedUnit.piece
        let half = SimulatedUnit.piece / 2
        let pieces =
          Bool.random(using: &random)
          ? [host.piece(place, SimulatedUnit.piece)]
          : [host.piece(place, half), host.piece(place + half, half)]
        if reads.count - host.replyCount < 40,
          host.send(host.transfer(device, 0, 4096, next, pieces)) == nil
        {
          reads.insert(next)
          next += 1
        }
      } else if let victim = reads.randomElement(using: &random) {
        let context = 2000 + UInt32(aborts.count)
        let kind: I2O.AbortKind = Int.random(in: 0..<8, using: &random) == 0 ? .wild : .exact
        let abort = RequestFrame.abort(
          kind, of: device, function: 0x30, transaction: victim, context: context)
        if reads.count + aborts.count - host.replyCount < 60, host.send(abort.bytes) == nil {
          aborts.insert(context)
        }
      }
      for _ in 0..<Int.random(in: 0...3, using: &random) {
        unit.network.step()
        unit.service.turn()
        check()
      }
    }
    let count = 2 + reads.count + aborts.count
    #expect(
      unit.run {
        check()
        return host.arrivals.count >= count
      }, "seed \(seed): \(host.arrivals.count) of \(count)")
    for _ in 0..<50 { _ = unit.network.step(); unit.service.turn() }
    #expect(host.arrivals.count == count, "seed \(seed)")
    var abortedCount: UInt32 = 0
    for context in reads {
      let replies = host.replies(to: context)
      #expect(replies.count == 1, "seed \(seed), read \(context): \(replies)")
      if replies.first != .success(transferCount: 4096) { abortedCount += 1 }
    }
    let told = aborts.reduce(0 as UInt32) { sum, context in
      guard case .aborted(let count)? = host.replies(to: context).first else { return sum }
      return sum + count
    }
    #expect(told == abortedCount, "seed \(seed)")
    #expect(host.closeReason == nil)
  }
}
