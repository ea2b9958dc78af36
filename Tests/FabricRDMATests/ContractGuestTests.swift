import FabricPlatform
import FabricRDMA
import FabricVerbs
import FabricVerbsContract
import TestSupport
import Testing

/// The verbs contract over the kernel's own RDMA devices, with both ends on the device that is there;
/// run by the guest's check `contract`, once for each kind.
@Suite("RDMA adapter: contract", .serialized, .enabled(if: Guest.isHere, Guest.comment))
struct RDMAContractGuestTests {
  @Test("keeps the contract over the kernel's device", arguments: ContractSuite.checks)
  func overDevice(_ check: ContractCheck) throws {
    switch try check.run(RDMAFixture()) {
    case .kept: break
    case .notApplicable(let words):
      let isIWARP = try RDMAAdapter().capabilities.hasImmediateWrite == false
      let lacks = Self.lacks.union(isIWARP ? Self.iWARPLacks : [])
      #expect(lacks.contains(words), "not applicable: \(words)")
    }
  }

  /// What no device has, and what this fixture does not do.
  private static let lacks: Set<String> = [
    "the adapter's device numbers its keys", "the adapter's keys are good for all of a domain",
    "the fixture cannot kill an adapter",
  ]
  private static let iWARPLacks: Set<String> = ["no write with immediate"]
}

/// Two adapters of this process on one device.
final class RDMAFixture: ContractFixture {
  func makePair() throws -> ContractPair {
    ContractPair(
      client: try RDMAAdapter(), server: try RDMAAdapter(),
      address: FabricAddress(
        fabric: "rdma", endpoint: try FreePort.endpoint(host: "10.0.2.15")))
  }

  func pump() {}
  var now: MonotonicTime { .now }
  var longRunMessageCount: Int { 2000 }
}
