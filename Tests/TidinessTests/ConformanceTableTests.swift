import FabricConformance
import Foundation
import Testing

/// The pages of the protocols, the clauses as values and the cases that judge by them say the same.
@Suite("Tidiness: conformance")
struct ConformanceTableTests {
  private static let root = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().deletingLastPathComponent()

  private func text(_ path: String) throws -> String {
    try String(contentsOf: Self.root.appending(path: path), encoding: .utf8)
  }

  /// A clause as its page has it: number, heading, and words without tables, on one line.
  private struct Written: Equatable {
    let id: String
    let section: String?
    var sentence: String
  }

  private func clauses(on page: Clause.Page) throws -> [Written] {
    var found: [Written] = []
    var section: String?
    var isInside = false
    for line in try text("Specs/\(page.rawValue).md").split(
      separator: "\n", omittingEmptySubsequences: false)
    {
      if line.hasPrefix("#") {
        if line.hasPrefix("## ") { section = String(line.dropFirst(3)) }
        isInside = false
      } else if line.hasPrefix("- **"), let end = line.range(of: "** ") {
        let id = String(line[line.index(line.startIndex, offsetBy: 4)..<end.lowerBound])
        found.append(Written(id: id, section: section, sentence: String(line[end.upperBound...])))
        isInside = true
      } else if line.hasPrefix(" "), isInside {
        let words = line.trimmingCharacters(in: .whitespaces)
        if !words.isEmpty, !words.hasPrefix("|") { found[found.count - 1].sentence += " " + words }
      } else if !line.isEmpty {
        isInside = false
      }
    }
    return found
  }

  @Test(
    "every clause of the pages is a value, in the same words and order, and the other way round",
    arguments: Clause.Page.allCases)
  func wording(page: Clause.Page) throws {
    let written = try clauses(on: page)
    #expect(written.count > 15, "the clauses were not found")
    let values = Clause.all.filter { $0.page == page }
    #expect(Set(values.map(\.id)) == Set(written.map(\.id)))
    for clause in written {
      guard let value = values.first(where: { $0.id == clause.id }) else { continue }
      #expect(value.sentence == clause.sentence, "\(clause.id)")
      if let section = clause.section { #expect(value.section == section, "\(clause.id)") }
    }
  }

  @Test(
    "every clause has a case for each half that it binds, every case a clause that binds its half")
  func cases() {
    let all = ConformanceCase.all
    #expect(Set(all.map(\.id)).count == all.count, "two cases of one name")
    for clause in Clause.all {
      let cases = all.filter { $0.clauses.contains(clause.id) }
      #expect(!cases.isEmpty, "\(clause.id) has no case")
      if clause.role != .both {
        #expect(cases.contains { $0.role == clause.role }, "\(clause.id) has no case of its half")
      }
    }
    for one in all {
      #expect(!one.clauses.isEmpty, "\(one.id) has no clause")
      for id in one.clauses { #expect(Clause.byNumber[id] != nil, "\(one.id) judges by \(id)") }
    }
  }

  @Test("the table of Specs/Conformance.md is up to date")
  func table() throws {
    let path = "Specs/Conformance.md"
    let page = try text(path)
    let begin = try #require(page.range(of: "<!-- table -->\n"))
    let end = try #require(page.range(of: "<!-- end -->"))
    let wanted = try rows().joined(separator: "\n") + "\n"
    if ProcessInfo.processInfo.environment["CHANNELFABRIC_WRITE_TABLE"] != nil {
      let whole = page[..<begin.upperBound] + wanted + page[end.lowerBound...]
      try Data(whole.utf8).write(to: Self.root.appending(path: path))
    }
    #expect(
      page[begin.upperBound..<end.lowerBound] == wanted,
      "write it anew: CHANNELFABRIC_WRITE_TABLE=1 swift test --filter ConformanceTableTests")
  }

  /// One for each clause: what binds whom, the cases, and the tests that cite it beside them.
  private func rows() throws -> [String] {
    let folder = Self.root.appending(path: "Tests").path
    let files = try FileManager.default.subpathsOfDirectory(atPath: folder)
      .filter { $0.hasSuffix("Tests.swift") && !$0.hasPrefix("TidinessTests") }.sorted()
    let citing = try files.map { file in
      let numbers = try text("Tests/\(file)").matches(of: /\b(?:MS|IO)-[0-9]+\b/).map {
        String($0.output)
      }
      return (name: file.split(separator: "/").last!.dropLast(6), numbers: Set(numbers))
    }
    var rows = [
      "| Clause | Binds | Cases for units | Cases for hosts | Also in |", "|---|---|---|---|---|",
    ]
    for clause in Clause.all {
      func names(_ cases: [ConformanceCase]) -> String {
        cases.filter { $0.clauses.contains(clause.id) }.map { "`\($0.id)`" }.joined(separator: ", ")
      }
      let others = citing.filter { $0.numbers.contains(clause.id) }.map(\.name)
        .joined(separator: ", ")
      rows.append(
        "| \(clause.id) | \(clause.role.rawValue), \(clause.level.rawValue) | "
          + "\(names(ConformanceCase.ofUnits)) | \(names(ConformanceCase.ofHosts)) | \(others) |")
    }
    return rows
  }
}
