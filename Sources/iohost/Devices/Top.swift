import ArgumentParser
import FabricCommandLine
import FabricPlatform
import Glibc

struct Top: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Watches devices and their paths: rates and latencies.",
    discussion: """
      Rates are those since the last look. ^C ends it. Where the output is no terminal, each look is \
      printed below the last.
      """)

  @Option(
    name: .long, parsing: .unconditional,
    help: ArgumentHelp("Seconds between looks.", valueName: "SECONDS"))
  var interval = 1.0
  @Option(
    name: .long, help: ArgumentHelp("Ends after so many looks.", valueName: "N"))
  var count: Int?
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where devices are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  func validate() throws {
    guard interval >= 0.1, interval <= 3600 else {
      throw ValidationError("expected --interval of 0.1 to 3600 seconds, got \(interval)")
    }
    if let count, count < 1 {
      throw ValidationError("expected --count of at least 1, got \(count)")
    }
  }

  /// One device at one moment.
  private struct Look {
    var device: String
    var status: DeviceStatus
    var paths: DevicePaths
    var time = MonotonicTime.now
  }

  func run() async {
    await reporting {
      let directory = try StateDirectory(stateDir)
      let isTerminal = isatty(1) == 1
      var last: [String: Look] = [:]
      var done = 0
      while true {
        let now = try look(directory)
        let lines = render(now, since: last)
        // Home, each line to its end, and nothing of before below.
        try Output.write(
          isTerminal
            ? "\u{1B}[H" + lines.map { "\($0)\u{1B}[K\n" }.joined() + "\u{1B}[J"
            : lines.map { "\($0)\n" }.joined(), to: 1)
        last = now
        done += 1
        if done == count { return }
        try await Task.sleep(for: .seconds(interval))
      }
    }
  }

  private func look(_ directory: StateDirectory) throws -> [String: Look] {
    var found: [String: Look] = [:]
    for entry in try directory.livingEntries() {
      do throws(ToolFailure) {
        guard let status = try entry.status() else { continue }
        let answer = try entry.ask(ControlRequest("paths"), seconds: 5)
        guard let paths = answer.paths else { continue }
        found[entry.name] = Look(device: status.device ?? "-", status: status, paths: paths)
      } catch { Output.error("error: \(error.words)") }
    }
    return found
  }

  private func render(_ now: [String: Look], since last: [String: Look]) -> [String] {
    guard !now.isEmpty else { return ["no device is attached"] }
    var rows = [
      [
        "device and paths", "state", "requests/s", "read/s", "written/s", "latency", "under way",
        "errors",
      ]
    ]
    for (name, look) in now.sorted(by: { $0.key < $1.key }) {
      let before = last[name]
      let seconds =
        before.map { Double(look.time.nanoseconds(since: $0.time)) / 1e9 } ?? .infinity
      func rate(_ now: UInt64, _ then: UInt64?) -> Double {
        Double(now &- min(now, then ?? now)) / seconds
      }
      let old = before?.status.figures
      let figures = look.status.figures
      rows.append([
        "\(look.device)  \(name), \(look.paths.policy)", look.status.state,
        rounded(
          rate(figures.reads, old?.reads) + rate(figures.writes, old?.writes), 0),
        describeBytes(rate(figures.readBytes, old?.readBytes)),
        describeBytes(rate(figures.writeBytes, old?.writeBytes)), "",
        "\(figures.inFlight)", "\(figures.errors)",
      ])
      for (index, path) in look.paths.paths.enumerated() {
        let then = before.flatMap { $0.paths.paths.dropFirst(index).first }
        rows.append([
          "  \(path.url)", path.state == "ready" ? path.access : path.state,
          rounded(rate(path.requests, then?.requests), 0),
          describeBytes(rate(path.readBytes, then?.readBytes)),
          describeBytes(rate(path.writeBytes, then?.writeBytes)),
          path.latencyMicroseconds.map { "\(Int($0)) us" } ?? "-", "\(path.inFlight)",
          "\(path.errors)",
        ])
      }
    }
    return table(rows)
  }
}
