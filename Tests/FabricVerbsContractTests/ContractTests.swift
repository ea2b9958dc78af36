import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import Foundation
import TestSupport
import Testing

@testable import ContractPeer

@Suite("Adapters: contract between processes", .serialized)
struct ContractTests {
  /// Shared memory, by file of checks: messages SM-10, SM-12, SM-13; keys SM-23, SM-31 (with writes in
  /// flight; in direct mode SM-52); remote memory SM-30, SM-32, SM-43; queues SM-4, SM-45; connections
  /// SM-41, SM-47; ends SM-46, SM-48.
  @Test(
    "each adapter keeps it, and one process is killed where a check wants a death",
    arguments: ContractSuite.checks, AdapterKind.ofEveryMachine)
  func betweenProcesses(_ check: ContractCheck, _ kind: AdapterKind) throws {
    switch try check.run(ProcessesFixture(kind)) {
    case .kept: break
    case .notApplicable(let words): Issue.record("not applicable: \(words)")
    }
  }
}

/// The server is a process of its own.
final class ProcessesFixture: ContractFixture {
  private let kind: AdapterKind
  private let place = SocketPlace()
  init(_ kind: AdapterKind) { self.kind = kind }

  func makePair() throws -> ContractPair {
    let client = try kind.makeAdapter()
    let endpoint =
      switch client.fabric {
      case "tcp": try FreePort.endpoint()
      case "rdma": try FreePort.endpoint(host: Guest.address)
      default: place.freshPath()
      }
    return ContractPair(
      client: client, server: try PeerAdapter(kind, twin: client),
      address: FabricAddress(fabric: client.fabric, endpoint: endpoint))
  }

  func pump() {}
  var now: MonotonicTime { .now }
  var longRunMessageCount: Int { kind == .rdma ? 500 : 5000 }

  func kill(_ adapter: any Adapter) -> Bool {
    guard let peer = adapter as? PeerAdapter else { return false }
    peer.process.kill()
    return true
  }
}
