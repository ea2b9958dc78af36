import FabricConformance
import Foundation
import TestSupport
import Testing

/// Cases that cannot fail prove nothing: each of these broken units is caught by the case that is named for it, which our
/// own unit passes in the same place.
@Suite("Conformance: broken units", .untilStuck)
struct MutationTests {
  @Test("each broken unit is caught", arguments: Mutation.all)
  func caught(_ mutation: Mutation) throws {
    let found = try BrokenUnit(mutation).judge(mutation.caughtBy)
    #expect(found.verdict == .failed, "\(mutation): \(found.words)")
    #expect(Clause.byNumber[mutation.clause] != nil)
  }

  @Test(
    "what is not broken passes the same cases",
    arguments: Set(Mutation.all.map(\.caughtBy)).sorted())
  func sound(_ name: String) throws {
    let found = try BrokenUnit(nil).judge(name)
    #expect(found.verdict == .passed, "\(name): \(found.words)")
  }

  @Test("the table of broken units in Specs/Conformance.md is up to date")
  func table() throws {
    #expect(Mutation.all.count >= 30)
    let path = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
      .deletingLastPathComponent().appending(path: "Specs/Conformance.md")
    let page = try String(contentsOf: path, encoding: .utf8)
    let begin = try #require(page.range(of: "<!-- broken units -->\n"))
    let end = try #require(page.range(of: "<!-- end of broken units -->"))
    let rows = Mutation.all.map { "| \($0) | \($0.clause) | `\($0.caughtBy)` |\n" }.joined()
    let wanted = "| A unit with this | Breaks | Is caught by |\n|---|---|---|\n" + rows
    if ProcessInfo.processInfo.environment["CHANNELFABRIC_WRITE_TABLE"] != nil {
      let whole = page[..<begin.upperBound] + wanted + page[end.lowerBound...]
      try Data(whole.utf8).write(to: path)
    }
    #expect(
      page[begin.upperBound..<end.lowerBound] == wanted,
      "write it anew: CHANNELFABRIC_WRITE_TABLE=1 swift test --filter MutationTests")
  }
}
