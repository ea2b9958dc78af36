import Foundation
import Testing

/// Reads the project's own files; each rule says what breaks it and where.
@Suite("Tidiness")
struct TidinessTests {
  /// Clauses that no test cites, with the reason. A clause that gets a test must leave the list.
  static let uncited: [String: String] = [
    "HD-36": "Tests/Guest/suite: wants a machine that loses its power",
    "HD-60": "Tests/Guest/checks/ublk: wants a kernel with ublk_drv",
    "HD-65": "Tests/Guest/checks/ublk: wants a kernel with ublk_drv",
    "HD-75": "Tests/Guest/checks/nbd-device: wants a kernel with nbd",
  ]

  @Test("every clause cited in sources and tests exists")
  func citationsExist() throws {
    let defined = try definedClauses()
    #expect(defined.count > 100, "the clauses were not found")
    for file in try swiftFiles("Sources", "Tests") {
      for clause in clauses(in: try text(file)).subtracting(defined) {
        Issue.record("\(file) cites \(clause), which no page of Specs defines")
      }
    }
  }

  @Test("every clause is cited by a test, or excused")
  func clausesAreCited() throws {
    var cited: Set<String> = []
    for file in try swiftFiles("Tests") where !file.hasPrefix("Tests/TidinessTests/") {
      cited.formUnion(clauses(in: try text(file)))
    }
    let defined = try definedClauses()
    let missing = defined.subtracting(cited).subtracting(Self.uncited.keys).sorted()
    #expect(missing.isEmpty, "no test cites \(missing)")
    let needless = Self.uncited.keys.filter { cited.contains($0) || !defined.contains($0) }.sorted()
    #expect(needless.isEmpty, "excused without need: \(needless)")
  }

  @Test("no Swift file is longer than 400 lines")
  func fileLengths() throws {
    let files = try swiftFiles("Sources", "Tests", "Samples")
    #expect(files.count > 100, "the files were not found")
    for file in files {
      let count = try text(file).count { $0 == "\n" }
      #expect(count <= 400, "\(file) has \(count) lines")
    }
  }

  @Test("below the front ends nobody knows their protocols")
  func commonLayerNamesNoProtocol() throws {
    let files = try swiftFiles(
      "Sources/FabricStorage", "Sources/FabricFrontEnds", "Sources/FabricCompletion",
      "Sources/FabricBounded", "Sources/FabricPlatform", "Sources/FabricWire")
    #expect(files.count > 60, "the files were not found")
    for file in files {
      let content = try text(file).lowercased()
      for name in ["nvm", "nbd", "i2o", "iscsi"] where content.contains(name) {
        Issue.record("\(file) names \(name)")
      }
    }
  }

  // MARK: Floors

  /// The floor of each module; see `Specs/Architecture.md`. A module uses lower ones only.
  static let floors: [String: Double] = [
    "CFabricFUSE": 0, "CFabricLinux": 0, "CFabricNUMA": 0, "CFabricUBLK": 0,
    "CFabricURing": 0, "CFabricURCU": 0, "CFabricVerbs": 0,
    "FabricPlatform": 1, "FabricWire": 1, "FabricBounded": 1, "FabricRing": 1.5,
    "FabricVerbs": 2, "FabricCompletion": 2.5, "FabricVerbsContract": 2.5,
    "FabricAdapterParts": 2.5, "FabricIWARP": 2.5, "FabricSharedMemory": 3, "FabricSimulated": 3,
    "FabricTCP": 3, "FabricRDMA": 3,
    "FabricMessaging": 4, "FabricStorage": 4,
    "FabricIOProtocol": 5, "FabricNBDProtocol": 5, "FabricAuthentication": 5, "FabricFrontEnds": 5,
    "FabricNVMe": 5, "FabricNIC": 5,
    "FabricNBD": 5.5, "FabricNVMeFabrics": 5.5, "FabricI2O": 5.5,
    "FabricIOUnit": 6, "FabricHostDriver": 6, "FabricI2OHost": 6.5, "FabricHostDevices": 6.5,
    "FabricNICHost": 6, "FabricNICUnit": 6.5,
    "FabricConformance": 6, "FabricCommandLine": 6,
    "fabconform": 7, "iounit": 7, "iohost": 7, "fabperf": 7, "PingPong": 7, "RPing": 7,
    "BlockEcho": 7,
  ]

  /// Modules that only tests use stand on no floor.
  static let testSupport: Set = [
    "CAllocationCounter", "CFuzzer", "CPlainLoop", "CSanitizedMutex", "CVirtualClock",
    "ContractPeer", "Fuzz",
    "TestMachine", "TestSupport", "VerbsCount", "VerbsPing",
  ]

  @Test("modules use only modules of lower floors")
  func dependenciesGoDown() throws {
    // A declaration begins with its kind and ends where the next begins.
    let kinds = [".target(", ".executableTarget(", ".systemLibrary(", ".testTarget("]
    var rest = try text("Package.swift")[...]
    let start = try #require(rest.range(of: "  targets: ["))
    rest = rest[start.upperBound...]
    var seen = 0
    while let kind = kinds.compactMap({ rest.range(of: $0) }).min(by: isBefore) {
      let isTest = rest[kind] == ".testTarget("
      rest = rest[kind.upperBound...]
      let end = kinds.compactMap { rest.range(of: $0)?.lowerBound }.min() ?? rest.endIndex
      let names = quoted(rest[..<end])
      rest = rest[end...]
      let module = try #require(names.first)
      if isTest || Self.testSupport.contains(module) { continue }
      let floor = try #require(Self.floors[module], "\(module) has no floor: give it one")
      seen += 1
      for used in names.dropFirst() {
        guard let other = Self.floors[used] else { continue }
        #expect(other < floor, "\(module) (floor \(floor)) uses \(used) (floor \(other))")
      }
    }
    #expect(seen == Self.floors.count, "expected \(Self.floors.count) modules, found \(seen)")
  }

  private func isBefore(_ one: Range<String.Index>, _ other: Range<String.Index>) -> Bool {
    one.lowerBound < other.lowerBound
  }

  /// What stands between quotation marks.
  private func quoted(_ text: Substring) -> [String] {
    let parts = text.split(separator: "\"", omittingEmptySubsequences: false)
    return parts.indices.filter { $0 % 2 == 1 }.map { String(parts[$0]) }
  }

  // MARK: Files

  private let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  private func text(_ path: String) throws -> String {
    try String(contentsOf: root.appending(path: path), encoding: .utf8)
  }

  private func swiftFiles(_ folders: String...) throws -> [String] {
    try folders.flatMap { folder in
      try FileManager.default.subpathsOfDirectory(atPath: root.appending(path: folder).path)
        .filter { $0.hasSuffix(".swift") }.map { "\(folder)/\($0)" }
    }
  }

  /// A clause's number, of whichever page.
  private static var clause: Regex<Substring> {
    /\b(?:MS|IO|ST|SM|CS|IW|NB|NV|NR|NT|IT|HD|VU|NI)-[0-9]+\b/
  }

  private func clauses(in text: String) -> Set<String> {
    Set(text.matches(of: Self.clause).map { String($0.output) })
  }

  /// A page defines a clause where a line begins with its number in bold.
  private func definedClauses() throws -> Set<String> {
    var defined: Set<String> = []
    for page in try FileManager.default.contentsOfDirectory(
      atPath: root.appending(path: "Specs").path) where page.hasSuffix(".md")
    {
      for line in try text("Specs/\(page)").split(separator: "\n") {
        guard line.hasPrefix("- **"), let match = line.dropFirst(4).prefixMatch(of: Self.clause),
          line[match.range.upperBound...].hasPrefix("**")
        else { continue }
        let isNew = defined.insert(String(match.output)).inserted
        #expect(isNew, "\(match.output) is defined twice")
      }
    }
    return defined
  }
}
