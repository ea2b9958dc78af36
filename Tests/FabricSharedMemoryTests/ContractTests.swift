import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import Foundation
import TestSupport
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: contract", .serialized)
struct SharedMemoryContractTests {
  /// By file of checks: messages SM-10, SM-12, SM-13; keys SM-23, SM-31 (with writes in
  /// flight; in direct mode SM-52); remote memory SM-30, SM-32, SM-43; queues SM-4, SM-45; connections
  /// SM-41, SM-47; ends SM-46, SM-48.
  @Test(
    "keeps the contract between two processes, of which one is killed where a check wants a death",
    arguments: ContractSuite.checks, [SharedMemoryOptions.Mode.isolated, .direct])
  func betweenProcesses(_ check: ContractCheck, _ mode: SharedMemoryOptions.Mode) throws {
    #expect(try check.run(ProcessesFixture(mode)) == .kept)
  }

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

/// The server is a process of its own.
private final class ProcessesFixture: ContractFixture {
  private let mode: SharedMemoryOptions.Mode
  private let place = SocketPlace()
  init(_ mode: SharedMemoryOptions.Mode) { self.mode = mode }

  func makePair() throws -> ContractPair {
    let client = try SharedMemoryAdapter(SharedMemoryOptions(mode: mode))
    return ContractPair(
      client: client, server: try PeerAdapter(mode, twin: client),
      address: FabricAddress(fabric: "shm", endpoint: place.freshPath()))
  }

  func pump() {}
  var now: MonotonicTime { .now }
  var longRunMessageCount: Int { 5000 }

  func kill(_ adapter: any Adapter) -> Bool {
    guard let peer = adapter as? PeerAdapter else { return false }
    peer.process.kill()
    return true
  }
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
