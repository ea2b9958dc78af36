import FabricAuthentication
import FabricCompletion
import FabricConformance
import FabricIOUnit
import FabricSimulated
import FabricStorage
import FabricVerbs
import TestSupport

/// Our unit on a simulated network, on which what it says, or what it hears, is not what was said; and a judge.
final class BrokenUnit {
  private let network = SimulatedNetwork(seed: 1)
  private let service: CompletionService
  private let server: IOUnitServer
  private let bench: UnitJudge
  private let judged: ConformanceCase

  /// - Parameter mutation: nil: nothing is broken.
  init(_ mutation: Mutation?, case name: String) throws {
    guard let found = ConformanceCase.ofUnits.first(where: { $0.id == name }) else {
      throw UnknownCase(name: name)
    }
    judged = found
    // Those about keys, but for the one about units without any.
    let key =
      name.hasPrefix("key-") && name != "key-not-asked"
      ? try PresharedKey(name: "nqn.judged", secret: Array(repeating: 7, count: 32)) : nil
    let layer = CommonLayer()
    try layer.add(Volume(name: "scratch", store: MemoryStore(byteCount: 1 << 20)))
    try layer.add(
      Volume(name: "read-only", store: MemoryStore(byteCount: 1 << 20), access: .readOnly))
    let (network, service) = (network, try CompletionService())
    self.service = service
    var options = SimulatedAdapter.Options()
    if let mutation { options.keyChecks = mutation.keyChecks }
    let own = network.makeAdapter(name: "unit", options: options)
    let fabric = try UnitFabric([own], service: service)
    let place = FabricAddress(fabric: "sim", endpoint: "unit")
    server = try elsewhere({ service.turn() }, wake: { service.wake() }) {
      var options = IOUnitServer.Options()
      if let key { options.keys = Keyring([key]) }
      return try IOUnitServer(layer: layer, fabric: fabric, addresses: [place], options: options)
    }
    let adapter = network.makeAdapter(name: "judge")
    // The judge waits by polling: the unit lives in its polls.
    adapter.beforePoll = {
      network.step()
      service.turn()
    }
    bench = UnitJudge(
      UnitTarget(address: place, adapter: adapter, volume: "scratch", key: key, mayWrite: true))
    if let mutation {
      var state = Mutation.State()
      network.alteration = { mutation.alter(&$0, &state) }
    }
  }

  deinit {
    network.alteration = nil
    let (network, service, server) = (network, service, server)
    try? elsewhere(
      {
        network.step()
        service.turn()
      }, wake: { service.wake() }
    ) { server.stop() }
  }

  func judge() -> Judgement { bench.judge(judged) }

  struct UnknownCase: Error { let name: String }
}
