import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricVerbsContract
import Foundation
import Testing

/// Two adapters of this process that meet over a socket.
final class SharedMemoryFixture: ContractFixture {
  private var pairCount = 0

  func makePair() throws -> ContractPair {
    pairCount += 1
    let path = "/tmp/fabric-contract-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    return ContractPair(
      client: try SharedMemoryAdapter(), server: try SharedMemoryAdapter(),
      address: FabricAddress(fabric: "shm", endpoint: path))
  }

  func pump() {}

  var now: MonotonicTime { .now }

  var longRunMessageCount: Int { 100_000 }
}

@Suite("Shared-memory adapter: contract", .serialized)
struct SharedMemoryContractTests {
  @Test("keeps the contract", arguments: ContractSuite.checks)
  func keepsTheContract(_ check: ContractCheck) throws {
    let outcome = try check.run(SharedMemoryFixture())
    if case .notApplicable(let why) = outcome {
      print("skipped: shared memory, \(check.name): \(why)")
    }
  }
}
