import FabricPlatform
import FabricVerbs
import FabricVerbsContract
import TestSupport
import Testing

@testable import FabricTCP

@Suite("TCP adapter: contract", .serialized)
struct TCPContractTests {
  @Test(
    "keeps the contract within one process, with each way to make FPDUs",
    arguments: ContractSuite.checks, TCPFixture.Way.allCases)
  func withinOne(_ check: ContractCheck, _ way: TCPFixture.Way) throws {
    switch try check.run(TCPFixture(way)) {
    case .kept: break
    case .notApplicable(let words): Issue.record("not applicable: \(words)")
    }
  }
}

/// Two adapters of this process that meet over the loopback interface.
final class TCPFixture: ContractFixture {
  enum Way: CaseIterable, Sendable {
    case plain, checksums, markers, older, v6

    var options: TCPOptions {
      var options = TCPOptions()
      switch self {
      case .plain: options.checksums = .never
      case .checksums: options.checksums = .always
      case .markers:
        options.checksums = .always
        options.wantsMarkers = true
      case .older:
        options.isEnhanced = false
        options.segmentByteCount = 1000
      case .v6: break
      }
      return options
    }
  }

  private let way: Way
  init(_ way: Way) { self.way = way }

  func makePair() throws -> ContractPair {
    let host = way == .v6 ? "[::1]" : "127.0.0.1"
    return ContractPair(
      client: try TCPAdapter(way.options), server: try TCPAdapter(way.options),
      address: FabricAddress(fabric: "tcp", endpoint: try FreePort.endpoint(host: host)))
  }

  func pump() {}
  var now: MonotonicTime { .now }
  var longRunMessageCount: Int { 20_000 }

  func kill(_ adapter: any Adapter) -> Bool {
    (adapter as? TCPAdapter)?.die()
    return true
  }
}
