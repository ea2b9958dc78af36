import Foundation
import Testing

/// What a run of `fabconform --json` reports.
struct ConformanceReport: Decodable {
  struct Case: Decodable {
    let id: String
    let verdict: String
    let words: String
    let clauses: [String]
  }
  let passed: Int
  let failed: Int
  let notApplicable: Int
  let cases: [Case]

  /// Waits for the run's end; each case that failed is an issue of the test.
  init(of tool: Tool) throws {
    let status = tool.waitForEnd(limit: 240)
    let line = try #require(tool.output.first { $0.hasPrefix("{") }, "\(status) \(tool.errors)")
    self = try JSONDecoder().decode(Self.self, from: Data(line.utf8))
    let failures = cases.filter { $0.verdict == "failed" }
    #expect(status == (failures.isEmpty ? 0 : 1))
    for one in failures { Issue.record("\(one.id) (\(one.clauses)): \(one.words)") }
  }

  /// Cases that judged nothing are those with a reason.
  func expectJudged(but skipped: Set<String>) {
    let others = Set(cases.filter { $0.verdict == "notApplicable" }.map(\.id))
    #expect(others.subtracting(skipped).isEmpty, "\(others)")
    #expect(passed > 30)
  }
}
