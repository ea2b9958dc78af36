import ArgumentParser
import FabricAuthentication
import FabricCommandLine
import FabricConformance
import FabricPlatform
import Foundation

/// Which cases are put.
struct CaseChoice: ParsableArguments {
  @Option(name: .customLong("case"), help: "Only this case; may be given more than once.")
  var cases: [String] = []
  @Option(
    name: .customLong("clause"), help: "Only cases of this clause; may be given more than once.")
  var clauses: [String] = []

  /// - Throws: with code 64 for a name that none of them has.
  func choose(from all: [ConformanceCase]) throws(ToolFailure) -> [ConformanceCase] {
    for id in cases where !all.contains(where: { $0.id == id }) {
      throw ToolFailure(
        64, "expected the name of one of these cases, got \(id): `fabconform list` has them")
    }
    for number in clauses where Clause.byNumber[number] == nil {
      throw ToolFailure(64, "expected a clause's number, got \(number): `fabconform list` has them")
    }
    if cases.isEmpty && clauses.isEmpty { return all }
    let chosen = all.filter { one in
      cases.contains(one.id) || one.clauses.contains { clauses.contains($0) }
    }
    guard !chosen.isEmpty else {
      throw ToolFailure(
        64, "expected a clause that binds this half, got \(clauses.joined(separator: ", "))")
    }
    return chosen
  }
}

/// The key that the judge proves, and has proven.
enum JudgeKey {
  /// The first key of a file; nil where none is named.
  ///
  /// - Throws: with code 66 when it cannot be read.
  static func read(_ path: String?) throws(ToolFailure) -> PresharedKey? {
    guard let path else { return nil }
    do { return try KeyFile.read(path).first } catch { throw ToolFailure(66, error.description) }
  }
}

/// How the judgements are told.
struct ReportOptions: ParsableArguments {
  @Flag(help: "Reports as JSON, in place of lines.") var json = false
  @Option(help: ArgumentHelp("Also writes the report as JUnit's XML.", valueName: "FILE"))
  var junit: String?

  /// Has the JUnit file, if any, say that nothing is judged yet, in place of what an earlier run has left in it.
  ///
  /// - Throws: with code 66 when it cannot be written.
  func begin(on subject: String) throws(ToolFailure) {
    if let junit { try checkWritable(junit) }
    try write(Report(subject: subject, judgements: [], isWhole: false))
  }

  /// Puts the cases, tells how each ends, and ends the process with 1 when one has failed, or none was judged.
  func report(
    on subject: String, _ cases: [ConformanceCase], judge: (ConformanceCase) -> Judgement
  ) throws {
    var judgements: [Judgement] = []
    for conformanceCase in cases {
      let judgement = judge(conformanceCase)
      judgements.append(judgement)
      if !json { Output.line(Report.line(for: judgement)) }
      // Whatever ends this process, the file has what was judged.
      try write(Report(subject: subject, judgements: judgements, isWhole: false))
    }
    let report = Report(subject: subject, judgements: judgements)
    if json { Output.line(try report.json()) } else { tell(report) }
    try write(report)
    if report.count(.failed) > 0 { Foundation.exit(1) }
    if report.count(.passed) == 0 {
      throw ToolFailure(
        1, "expected a case that applies, but none of those chosen does: nothing was judged")
    }
  }

  private func write(_ report: Report) throws(ToolFailure) {
    guard let junit else { return }
    do { try report.junit().write(toFile: junit, atomically: true, encoding: .utf8) } catch {
      throw ToolFailure(66, "expected to write \(junit): \(error)")
    }
  }

  private func checkWritable(_ path: String) throws(ToolFailure) {
    guard let file = unsafe fopen(path, "a") else {
      throw ToolFailure(66, "expected to write \(path), got \"\(Errno.current)\"")
    }
    unsafe fclose(file)
  }

  private func tell(_ report: Report) {
    for judgement in report.judgements where judgement.verdict == .failed {
      Output.line("")
      Report.details(of: judgement).forEach { Output.line($0) }
    }
    Output.line("")
    Output.line(report.summary)
  }
}
