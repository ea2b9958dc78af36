import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import Foundation
import TestSupport
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: contract", .serialized)
struct SharedMemoryContractTests {
  /// At full speed, because nobody asks another process for each step.
  @Test(
    "keeps the contract within one process",
    arguments: ContractSuite.checks.filter { !$0.needsDeath },
    [SharedMemoryOptions.Mode.isolated, .direct])
  func withinOne(_ check: ContractCheck, _ mode: SharedMemoryOptions.Mode) throws {
    #expect(try check.run(ThreadFixture(mode)) == .kept)
  }
}

extension ContractCheck {
  /// Whether somebody has to die, as only another process can.
  fileprivate var needsDeath: Bool { name.hasPrefix("the death of") }
}

/// Two adapters of this process that meet over a socket.
private final class ThreadFixture: ContractFixture {
  private let options: SharedMemoryOptions
  private let place = SocketPlace()
  init(_ mode: SharedMemoryOptions.Mode) { options = SharedMemoryOptions(mode: mode) }

  func makePair() throws -> ContractPair {
    ContractPair(
      client: try SharedMemoryAdapter(options), server: try SharedMemoryAdapter(options),
      address: FabricAddress(fabric: "shm", endpoint: place.freshPath()))
  }

  func pump() {}
  var now: MonotonicTime { .now }
  var longRunMessageCount: Int { 100_000 }
}
