import FabricConformance
import Foundation
import TestSupport
import Testing

/// Cases that cannot fail prove nothing: each of these broken units and hosts is caught by the case that is named for it,
/// which our own half passes in the same place.
@Suite("Conformance: broken units and hosts", .untilStuck)
struct MutationTests {
  @Test("each broken unit is caught", arguments: Mutation.ofUnits)
  func caughtUnit(_ mutation: Mutation) throws {
    let found = try BrokenUnit(mutation, case: mutation.caughtBy).judge()
    #expect(found.verdict == .failed, "\(mutation): \(found.words)")
    // Not by what every case asks at its end.
    #expect(!found.words.contains("still takes an honest host"), "\(mutation): \(found.words)")
    #expect(Clause.byNumber[mutation.clause] != nil)
  }

  @Test("each broken host is caught", arguments: Mutation.ofHosts)
  func caughtHost(_ mutation: Mutation) throws {
    let found = try BrokenHost(mutation, case: mutation.caughtBy).judge()
    #expect(found.verdict == .failed, "\(mutation): \(found.words)")
    #expect(Clause.byNumber[mutation.clause] != nil)
  }

  @Test(
    "a unit that is not broken passes the same cases",
    arguments: Set(Mutation.ofUnits.map(\.caughtBy)).sorted())
  func soundUnit(_ name: String) throws {
    let found = try BrokenUnit(nil, case: name).judge()
    #expect(found.verdict == .passed, "\(name): \(found.words)")
  }

  @Test(
    "a host that is not broken passes the same cases",
    arguments: Set(Mutation.ofHosts.map(\.caughtBy)).sorted())
  func soundHost(_ name: String) throws {
    let found = try BrokenHost(nil, case: name).judge()
    #expect(found.verdict == .passed, "\(name): \(found.words)")
  }

  @Test(
    "the tables of broken units and hosts in Specs/Conformance.md are up to date",
    arguments: [Mutation.Half.unit, .host])
  func table(_ half: Mutation.Half) throws {
    let mutations = half == .unit ? Mutation.ofUnits : Mutation.ofHosts
    #expect(mutations.count >= 30)
    let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Specs/Conformance.md")
    let page = try String(contentsOf: path, encoding: .utf8)
    let begin = try #require(page.range(of: "<!-- broken \(half)s -->\n"))
    let end = try #require(page.range(of: "<!-- end of broken \(half)s -->"))
    let rows = mutations.map { "| \($0) | \($0.clause) | `\($0.caughtBy)` |\n" }.joined()
    let wanted = "| A \(half) with this | Breaks | Is caught by |\n|---|---|---|\n" + rows
    if ProcessInfo.processInfo.environment["CHANNELFABRIC_WRITE_TABLE"] != nil {
      let whole = page[..<begin.upperBound] + wanted + page[end.lowerBound...]
      try Data(whole.utf8).write(to: path)
    }
    #expect(
      page[begin.upperBound..<end.lowerBound] == wanted,
      "write it anew: CHANNELFABRIC_WRITE_TABLE=1 swift test --filter MutationTests")
  }
}
