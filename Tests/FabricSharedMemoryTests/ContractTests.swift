import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricVerbsContract
import Foundation
import Testing

/// Two adapters of this process that meet over a socket.
final class SharedMemoryFixture: ContractFixture {
  private let options: SharedMemoryOptions

  init(_ mode: SharedMemoryOptions.Mode) { options = SharedMemoryOptions(mode: mode) }

  func makePair() throws -> ContractPair {
    let path = "/tmp/fabric-contract-\(getpid())-\(UInt32.random(in: 0 ... .max))"
    return ContractPair(
      client: try SharedMemoryAdapter(options), server: try SharedMemoryAdapter(options),
      address: FabricAddress(fabric: "shm", endpoint: path))
  }

  func pump() {}

  var now: MonotonicTime { .now }

  var longRunMessageCount: Int { 100_000 }
}

@Suite("Shared-memory adapter: contract", .serialized)
struct SharedMemoryContractTests {
  @Test(
    "keeps the contract",
    arguments: ContractSuite.checks, [SharedMemoryOptions.Mode.isolated, .direct])
  func keepsTheContract(_ check: ContractCheck, _ mode: SharedMemoryOptions.Mode) throws {
    let outcome = try check.run(SharedMemoryFixture(mode))
    if case .notApplicable(let why) = outcome {
      print("skipped: shared memory, \(check.name): \(why)")
    }
  }
}
