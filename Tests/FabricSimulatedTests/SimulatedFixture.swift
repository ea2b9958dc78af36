import FabricPlatform
import FabricSimulated
import FabricVerbs
import FabricVerbsContract

/// Adapters of one simulated network; time passes event by event.
final class SimulatedFixture: ContractFixture {
  let network: SimulatedNetwork
  private let options: SimulatedAdapter.Options
  private var pairCount = 0

  init(seed: UInt64, options: SimulatedAdapter.Options = .init()) {
    network = SimulatedNetwork(seed: seed)
    self.options = options
  }

  func makePair() -> ContractPair {
    pairCount += 1
    return ContractPair(
      client: network.makeAdapter(name: "client", options: options),
      server: network.makeAdapter(name: "server", options: options),
      address: FabricAddress(fabric: "sim", endpoint: "\(pairCount)"))
  }

  func pump() {
    let before = network.now
    network.step()
    // With nothing left to happen time passes all the same.
    if network.now == before { network.advance(by: .microseconds(20)) }
  }

  var now: MonotonicTime { MonotonicTime(nanoseconds: network.now.nanoseconds) }

  func kill(_ adapter: any Adapter) -> Bool {
    guard let adapter = adapter as? SimulatedAdapter else { return false }
    network.kill(adapter)
    return true
  }

  var longRunMessageCount: Int { 100_000 }
}
