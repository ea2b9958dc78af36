import ArgumentParser
import FabricCommandLine
import FabricConformance
import FabricHostDriver
import FabricVerbs

struct Run: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Judges a unit: as a host that says what the protocols allow, and what they forbid.",
    discussion: """
      The volume should be one that nobody uses. Without --overwrite cases that write are not \
      applicable. A case takes seconds, 90 at most; all together about a quarter of a minute, and minutes for a \
      unit that leaves much unanswered.

      Examples: fabconform run fabric+tcp://127.0.0.1:7420/scratch --overwrite
                fabconform run fabric+shm:///run/user/1000/unit.sock/scratch --clause MS-5
      """)

  @Argument(help: "The unit and its volume, such as fabric+tcp://HOST:PORT/VOLUME.") var url: String
  @Flag(help: "Lets cases write to the volume: what its first blocks held is lost.")
  var overwrite = false
  @Option(
    help: ArgumentHelp(
      "Proves a key of this file, the first one, where the unit asks for keys.", valueName: "FILE"))
  var keyFile: String?
  @OptionGroup var choice: CaseChoice
  @OptionGroup var output: ReportOptions
  @OptionGroup var tcp: ChecksumOptions

  func run() throws {
    let chosen = try choice.choose(from: ConformanceCase.ofUnits)
    let judge = UnitJudge(try target())
    try output.begin(on: url)
    do { try judge.checkReach() } catch {
      throw ToolFailure(69, "expected a unit to judge at \(url), but: \(error)")
    }
    try output.report(on: url, chosen) { judge.judge($0) }
  }

  private func target() throws -> UnitTarget {
    let address: VolumeAddress
    do { address = try VolumeAddress(parsing: url) } catch {
      throw ToolFailure(64, error.description)
    }
    let fabric = FabricChoice(isDirect: false, checksums: tcp.checksums, log: { Output.error($0) })
    return UnitTarget(
      address: address.unit,
      adapter: try fabric.adapter(for: address.unit.fabric, at: address.unit),
      volume: address.volumeName, key: try JudgeKey.read(keyFile), mayWrite: overwrite)
  }
}
