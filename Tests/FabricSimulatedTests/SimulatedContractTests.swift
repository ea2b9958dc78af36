import FabricSimulated
import FabricVerbs
import FabricVerbsContract
import Testing

/// The contract of all adapters, kept in simulation under several seeds.
@Suite("Simulated adapter: contract")
struct SimulatedContractTests {
  @Test("keeps the contract", arguments: ContractSuite.checks)
  func keepsTheContract(_ check: ContractCheck) throws {
    for seed in [1, 2, 0xC0FFEE, UInt64.random(in: 0 ... .max)] {
      do {
        let outcome = try check.run(SimulatedFixture(seed: seed))
        if check.name.contains("armed") {
          #expect(outcome == .notApplicable("nothing to wait for"))
        } else {
          #expect(outcome == .kept, "seed \(seed)")
        }
      } catch {
        Issue.record("seed \(seed): \(error)")
        return
      }
    }
  }

  @Test("keeps it without reads, immediates and foreign memory", arguments: ContractSuite.checks)
  func keepsItWithLess(_ check: ContractCheck) throws {
    var options = SimulatedAdapter.Options()
    options.hasRemoteRead = false
    options.hasImmediateWrite = false
    options.hasForeignMemory = false
    options.hasSharedReceiveQueue = false
    guard !check.name.contains("very many") else { return }
    do {
      _ = try check.run(SimulatedFixture(seed: 7, options: options))
    } catch {
      Issue.record("seed 7: \(error)")
    }
  }
}
