import ArgumentParser
import FabricPlatform
import Foundation

struct Compare: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Our workloads side by side with those of other programs, where they are installed.",
    discussion: """
      UCX (Debian: ucx-utils), libfabric (libfabric-bin), a bare socket, and for blocks nbdkit with fio. \
      As root also block devices that iohost attaches: loop beside libfuse's example passthrough_ll, \
      and where the kernel has both, ublk beside its NBD client; and NICs beside veth and a bridge (iperf3 \
      and ping, the median round trip). Each side has a processor of its own; the two take turns, and the medians count. Ratios above 1: \
      ours is ahead. JSON: a list of workload, unit, ours, peer, theirs, ratio, spread of both.
      """)

  @Option(help: "Turns of each side, 5 at least.")
  var runs = 5

  @Option(help: "Seconds of one turn.")
  var seconds = 1.0

  @Option(help: "Only workloads whose name or peer contains this.")
  var only = ""

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func validate() throws {
    guard 5...99 ~= runs else {
      throw ValidationError("expected 5 to 99 runs, got \(runs)")
    }
    guard seconds > 0, seconds <= 60 else {
      throw ValidationError("expected more than 0 and at most 60 seconds, got \(seconds)")
    }
  }

  func run() throws {
    let field = Field(seconds: seconds)
    for (program, package) in Field.programs where !OtherProgram.isInstalled(program) {
      Self.note("left out: \(program) is not installed (Debian: \(package))")
    }
    let contests = field.contests.filter {
      only.isEmpty || "\($0.workload) \($0.peer)".contains(only)
    }
    guard !contests.isEmpty else {
      let names = Set(field.contests.map { "\($0.workload) beside \($0.peer)" }).sorted()
      throw ValidationError(
        "expected --only with a part of a workload's or peer's name, got \"\(only)\"; there are: "
          + names.joined(separator: ", "))
    }
    var results: [Contest.Result] = []
    for contest in contests {
      do {
        let result = try contest.run(times: runs)
        results.append(result)
        if !json { Swift.print(Self.line(result)) }
      } catch {
        Self.note("left out: \(contest.workload) beside \(contest.peer): \(error)")
      }
    }
    if json { try printJSON(results) }
  }

  private static func note(_ words: String) {
    FileHandle.standardError.write(Data((words + "\n").utf8))
  }

  private static func line(_ result: Contest.Result) -> String {
    let contest = result.contest
    return String(
      format: "%@  ours %.3f (±%.0f %%)  %@ %.3f (±%.0f %%)  ratio %.2f",
      "\(contest.workload), \(contest.unit.rawValue)".padding(
        toLength: 46, withPad: " ", startingAt: 0),
      result.ours.median, result.ours.spread * 50, contest.peer, result.theirs.median,
      result.theirs.spread * 50, result.ratio)
  }

  private func printJSON(_ results: [Contest.Result]) throws {
    let rows: [[String: Any]] = results.map { result in
      [
        "workload": result.contest.workload, "unit": result.contest.unit.rawValue,
        "ours": result.ours.median, "oursSpread": result.ours.spread,
        "peer": result.contest.peer, "theirs": result.theirs.median,
        "theirsSpread": result.theirs.spread, "ratio": result.ratio,
      ]
    }
    let data = try JSONSerialization.data(
      withJSONObject: rows, options: [.prettyPrinted, .sortedKeys])
    Swift.print(String(decoding: data, as: UTF8.self))
  }
}
