import FabricAuthentication
import FabricConformance
import FabricMessaging
import FabricSimulated
import FabricVerbs

/// Our host driver on a simulated network, on which what it says, or what it hears, is not what was said; and a judge.
final class BrokenHost {
  private let network = SimulatedNetwork(seed: 1)
  private let bench: HostJudge
  private let judged: ConformanceCase
  /// The host of the case, as long as it lives.
  private var host: SimulatedHost?

  /// - Parameter mutation: nil: nothing is broken.
  init(_ mutation: Mutation?, case name: String) throws {
    guard let found = ConformanceCase.ofHosts.first(where: { $0.id == name }) else {
      throw BrokenUnit.UnknownCase(name: name)
    }
    judged = found
    let adapter = network.makeAdapter(name: "judge")
    // Those about keys alone: where keys are proven, whatever else is changed is first of all a wrong proof.
    let key =
      name.hasPrefix("host-key")
      ? try PresharedKey(name: "nqn.judged", secret: Array(repeating: 7, count: 32)) : nil
    let places = ["one", "other"].map { FabricAddress(fabric: "sim", endpoint: $0) }
    // The judge waits by polling: the host lives in its polls.
    weak var broken: BrokenHost?
    var target = HostTarget(
      adapter: adapter, addresses: places, patience: .seconds(5), key: key)
    let network = network
    target.start = { addresses, volume in
      var making = HostMaking(key: key)
      mutation?.prepare(&making)
      let host = try SimulatedHost(
        network, name == "host-fences" ? addresses : [addresses[0]], volume, making)
      broken?.host = host
      return host
    }
    bench = try HostJudge(target)
    broken = self
    adapter.beforePoll = {
      network.step()
      broken?.host?.turn()
    }
    if let mutation {
      var state = Mutation.State()
      network.alteration = { mutation.alter(&$0, &state) }
    }
  }

  deinit { network.alteration = nil }

  func judge() throws -> Judgement {
    defer { host = nil }
    return bench.judge(judged)
  }
}
