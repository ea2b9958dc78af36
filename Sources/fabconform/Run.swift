import ArgumentParser
import FabricAuthentication
import FabricCommandLine
import FabricConformance
import FabricHostDriver
import FabricVerbs
import Foundation

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Judges a unit: as a host that says what the protocols allow, and what they forbid.",
    discussion: """
      The volume should be one that nobody uses. Without --overwrite cases that write are not \
      applicable. A case takes seconds at most; all together about a minute.

      Examples: fabconform run fabric+tcp://127.0.0.1:7420/scratch --overwrite
                fabconform run fabric+shm:///run/user/1000/unit.sock/scratch --clause MS-5
      """)

  @Argument(help: "The unit and its volume, such as fabric+tcp://HOST:PORT/VOLUME.") var url: String
  @Flag(help: "Lets cases write to the volume: what its first blocks held is lost.")
  var overwrite = false
  @Option(name: .customLong("case"), help: "Only this case; may be given more than once.")
  var cases: [String] = []
  @Option(
    name: .customLong("clause"), help: "Only cases of this clause; may be given more than once.")
  var clauses: [String] = []
  @Option(
    help: ArgumentHelp(
      "Proves a key of this file, the first one, where the unit asks for keys.", valueName: "FILE"))
  var keyFile: String?
  @Flag(help: "Reports as JSON, in place of lines.") var json = false
  @Option(help: ArgumentHelp("Also writes the report as JUnit's XML.", valueName: "FILE"))
  var junit: String?
  @OptionGroup var tcp: ChecksumOptions

  func run() throws {
    let chosen = try chosenCases()
    let judge = UnitJudge(try target())
    do { try judge.checkReach() } catch {
      throw ToolFailure(69, "expected a unit to judge at \(url), but: \(error)")
    }
    var judgements: [Judgement] = []
    for conformanceCase in chosen {
      let judgement = judge.judge(conformanceCase)
      judgements.append(judgement)
      if !json { Output.line(Report.line(for: judgement)) }
    }
    try tell(Report(subject: url, judgements: judgements))
  }

  private func chosenCases() throws(ToolFailure) -> [ConformanceCase] {
    let all = ConformanceCase.ofUnits
    for id in cases where !all.contains(where: { $0.id == id }) {
      throw ToolFailure(64, "expected a case's name, got \(id): `fabconform list` has them")
    }
    for number in clauses where Clause.byNumber[number] == nil {
      throw ToolFailure(64, "expected a clause's number, got \(number): `fabconform list` has them")
    }
    if cases.isEmpty && clauses.isEmpty { return all }
    return all.filter { one in
      cases.contains(one.id) || one.clauses.contains { clauses.contains($0) }
    }
  }

  private func target() throws -> UnitTarget {
    let address: VolumeAddress
    do { address = try VolumeAddress(parsing: url) } catch {
      throw ToolFailure(64, error.description)
    }
    let choice = FabricChoice(
      isDirect: false, checksums: tcp.checksums, log: { Output.error($0) })
    return UnitTarget(
      address: address.unit,
      adapter: try choice.adapter(for: address.unit.fabric, at: address.unit),
      volume: address.volumeName, key: try key(), mayWrite: overwrite)
  }

  private func key() throws(ToolFailure) -> PresharedKey? {
    guard let keyFile else { return nil }
    do { return try KeyFile.read(keyFile).first } catch {
      throw ToolFailure(66, error.description)
    }
  }

  private func tell(_ report: Report) throws {
    if json {
      Output.line(try report.json())
    } else {
      for judgement in report.judgements where judgement.verdict == .failed {
        Output.line("")
        Report.details(of: judgement).forEach { Output.line($0) }
      }
      Output.line("")
      Output.line(report.summary)
    }
    if let junit {
      do { try report.junit().write(toFile: junit, atomically: true, encoding: .utf8) } catch {
        throw ToolFailure(66, "expected to write \(junit): \(error)")
      }
    }
    if report.count(.failed) > 0 { Foundation.exit(1) }
  }
}
