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
  private let judge: UnitJudge

  /// - Parameter mutation: nil: nothing is broken.
  init(_ mutation: Mutation?) throws {
    let layer = CommonLayer()
    try layer.add(Volume(name: "scratch", store: MemoryStore(byteCount: 1 << 20)))
    try layer.add(
      Volume(name: "read-only", store: MemoryStore(byteCount: 1 << 20), access: .readOnly))
    let (network, service) = (network, try CompletionService())
    self.service = service
    let fabric = try UnitFabric([network.makeAdapter(name: "unit")], service: service)
    let place = FabricAddress(fabric: "sim", endpoint: "unit")
    server = try elsewhere({ service.turn() }, wake: { service.wake() }) {
      try IOUnitServer(layer: layer, fabric: fabric, addresses: [place])
    }
    let adapter = network.makeAdapter(name: "judge")
    // The judge waits by polling: the unit lives in its polls.
    adapter.beforePoll = {
      network.step()
      service.turn()
    }
    judge = UnitJudge(
      UnitTarget(address: place, adapter: adapter, volume: "scratch", mayWrite: true))
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

  func judge(_ name: String) throws -> Judgement {
    guard let found = ConformanceCase.ofUnits.first(where: { $0.id == name }) else {
      throw UnknownCase(name: name)
    }
    return judge.judge(found)
  }

  struct UnknownCase: Error { let name: String }
}
