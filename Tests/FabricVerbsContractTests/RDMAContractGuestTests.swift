import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import TestSupport
import Testing

@testable import ContractPeer

/// The verbs contract over the kernel's own RDMA devices, with both ends on the device that is there; run by
/// the guest's checks `contract` and `contract-siw`, which count what it prints.
@Suite("RDMA adapter: contract", .serialized, .enabled(if: Guest.isHere, Guest.comment))
struct RDMAContractGuestTests {
  @Test("keeps it within one process", arguments: ContractSuite.checks.filter { !isOfDeath($0) })
  func withinProcess(_ check: ContractCheck) throws {
    try run(check) { RDMAFixture() }
  }

  /// Each call of the other process takes milliseconds in the guest: these are those to whom it matters.
  @Test(
    "keeps it between processes, one of which is killed where a check wants a death",
    arguments: ContractSuite.checks.filter { isOfDeath($0) || isOfProcesses($0) })
  func betweenProcesses(_ check: ContractCheck) throws {
    try run(check) { ProcessesFixture(.rdma) }
  }

  private static func isOfDeath(_ check: ContractCheck) -> Bool { check.name.contains("death") }

  private static func isOfProcesses(_ check: ContractCheck) -> Bool {
    ["arrives whole", "longer than", "refuses a write", "disconnect", "destroyed", "rejects"]
      .contains { check.name.contains($0) }
  }

  private func run(_ check: ContractCheck, _ fixture: () -> any ContractFixture) throws {
    let isSoftwareIWARP = try AdapterKind.rdma.makeAdapter().capabilities.hasRefusalReasons == false
    if isSoftwareIWARP, let defect = Self.defects[check.name] {
      return try withKnownIssue {
        _ = try check.run(fixture())
      } matching: { issue in
        guard let error = issue.error else { return false }
        print("contract: a defect of siw: \(check.name): \(error)")
        return "\(error)".contains(defect)
      }
    }
    switch try check.run(fixture()) {
    case .kept: print("contract: kept: \(check.name)")
    case .notApplicable(let words):
      print("contract: not applicable: \(check.name): \(words)")
      let lacks = Self.lacks.union(isSoftwareIWARP ? Self.iWARPLacks : [])
      #expect(lacks.contains(words), "not applicable: \(words)")
    }
  }

  /// What no device has. (Specs/RDMA.md)
  private static let lacks: Set<String> = [
    "the adapter's device numbers its keys", "the adapter's keys are good for all of a domain",
  ]
  private static let iWARPLacks: Set<String> = [
    "no write with immediate", "messages do not wait for receives",
  ]
  /// Checks that siw fails, and the words of the failure.
  private static let defects = [
    "a region without the right to read refuses a read": "expected remoteAccessError, got success"
  ]
}

/// Two adapters of this process on one device.
private final class RDMAFixture: ContractFixture {
  func makePair() throws -> ContractPair {
    ContractPair(
      client: try AdapterKind.rdma.makeAdapter(), server: try AdapterKind.rdma.makeAdapter(),
      address: FabricAddress(
        fabric: "rdma", endpoint: try FreePort.endpoint(host: Guest.address)))
  }

  func pump() {}
  var now: MonotonicTime { .now }
  var longRunMessageCount: Int { 2000 }
}
