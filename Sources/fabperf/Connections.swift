import ArgumentParser
import FabricCommandLine
import FabricPlatform
import Foundation

struct Connections: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Many connections to one unit over TCP: rate beside few, memory, and set-up.",
    discussion: """
      Starts `iounit`, which lies beside this program, with a memory volume, and attaches hosts of \
      this process, all to the same unit; they read 4 KiB at random. First --count hosts and --base \
      hosts with --depth requests each, so that every connection does what it would do alone; then as \
      many in flight in all, one for each of --count, shared among the --base. The second costs many \
      connections more: one message goes with each system call. The two take turns, each with a unit \
      of its own, and the medians count.

      JSON: sameDepth and sameTotal, each of {perSecond, basePerSecond, ratio}; setUpsPerSecond (from \
      the call to connect until requests may come, all one after the other in windows of 128), \
      bytesPerConnection (what the unit's own memory grew by, once each has read a block and is idle), \
      and the spread of each; count, base, depth, rounds.
      """)

  /// The address limit of a unit's listener.
  private static let countLimit = 2000
  /// The unit's bound for what a connection may have in flight.
  private static let depthLimit = 128

  /// Reads that one protection domain may have keys out for.
  private static let totalLimit = 8000

  @Option(help: "Hosts at once, 2 to 2000.")
  var count = 1000

  @Option(help: "Hosts to compare with, 1 and more, fewer than --count.")
  var base = 10

  @Option(help: "Requests that each host has in flight, 1 to 128.")
  var depth = 4

  @Option(help: "Rounds of each side, 5 at least.")
  var rounds = 5

  @Option(help: "Seconds that each turn is measured for, after a warm-up of a tenth.")
  var seconds = 0.5

  @OptionGroup var tcp: ChecksumOptions

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func validate() throws {
    guard 2...Self.countLimit ~= count else {
      throw ValidationError("expected --count of 2 to \(Self.countLimit), got \(count)")
    }
    guard 1..<count ~= base else {
      throw ValidationError(
        "expected --base of 1 to \(count - 1), fewer than --count, got \(base)")
    }
    guard 1...Self.depthLimit ~= depth else {
      throw ValidationError("expected --depth of 1 to \(Self.depthLimit), got \(depth)")
    }
    guard count * depth <= Self.totalLimit else {
      throw ValidationError(
        "expected --count times --depth of at most \(Self.totalLimit), got \(count * depth): give a "
          + "smaller --depth")
    }
    guard 5...99 ~= rounds else {
      throw ValidationError("expected 5 to 99 rounds, got \(rounds)")
    }
    guard seconds > 0, seconds <= 60 else {
      throw ValidationError("expected more than 0 and at most 60 seconds, got \(seconds)")
    }
  }

  func run() throws {
    try raiseDescriptorLimit()
    var many: [ConnectionRound] = []
    var few: [ConnectionRound] = []
    // In flight in all: one for each of the many, as far as few may have so many.
    let shared = min(Self.depthLimit, max(1, count / base))
    for _ in 0..<rounds {
      many.append(try round(count, shallow: 1))
      few.append(try round(base, shallow: shared))
    }
    try report(many, few).print(json: json)
  }

  private func round(_ hosts: Int, shallow: Int) throws -> ConnectionRound {
    try ConnectionRound(
      count: hosts, depths: (depth, shallow), seconds: seconds, checksums: tcp.checksums)
  }

  private func report(_ many: [ConnectionRound], _ few: [ConnectionRound]) -> Report {
    var report = Report()
    func compare(_ name: String, _ rate: (ConnectionRound) -> Double) {
      let ours = Contest.Figures(many.map(rate))
      let theirs = Contest.Figures(few.map(rate))
      report.add(
        name,
        [
          ("perSecond", ours.median), ("basePerSecond", theirs.median),
          ("ratio", ours.median / theirs.median), ("spread", ours.spread),
          ("baseSpread", theirs.spread),
        ])
    }
    compare("sameDepth") { $0.rates.0 }
    compare("sameTotal") { $0.rates.1 }
    let setUps = Contest.Figures(many.map(\.setUpsPerSecond))
    report.add("setUpsPerSecond", setUps.median, digits: 0)
    report.add("setUpsSpread", setUps.spread)
    let memory = Contest.Figures(many.map(\.bytesPerConnection))
    report.add("bytesPerConnection", memory.median, digits: 0)
    report.add("bytesSpread", memory.spread)
    report.add("count", count)
    report.add("base", base)
    report.add("depth", depth)
    report.add("rounds", rounds)
    return report
  }

  /// As many descriptors as this process, and the unit that it starts, may have.
  private func raiseDescriptorLimit() throws {
    var limit = rlimit()
    let kind = __rlimit_resource_t(RLIMIT_NOFILE.rawValue)
    guard unsafe getrlimit(kind, &limit) == 0 else { throw Errno.current }
    limit.rlim_cur = limit.rlim_max
    guard unsafe setrlimit(kind, &limit) == 0 else { throw Errno.current }
    // A socket each, here and at the unit, and what both have besides.
    let needed = count + 64
    guard limit.rlim_max >= needed else {
      throw ToolFailure(
        71,
        "expected \(needed) descriptors for \(count) hosts, \(limit.rlim_max) are allowed: raise "
          + "the limit with ulimit -Hn, or give a smaller --count")
    }
  }
}
