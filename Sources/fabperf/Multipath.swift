public import ArgumentParser
import FabricCommandLine
import FabricCompletion
public import FabricHostDriver
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import Foundation

struct Multipath: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "What a second path to a volume costs.",
    discussion: """
      Starts `iounit`, which lies beside this program, with a memory volume at two addresses of one \
      fabric, and reads 4 KiB at random by one path directly, and by two with the policy. The two \
      take turns; the rates are medians, the ratio is the median of those of neighbouring turns.

      JSON: for each depth {onePerSecond, twoPerSecond, ratio, ratioSpread}; fabric, policy, rounds. \
      The spread is from the least to the greatest, as a part of the median, without the outer fifths.
      """)

  @Option(help: "The fabric of both paths: shm or tcp.")
  var fabric = "shm"

  @Option(help: "Which path a request takes.")
  var policy = PathPolicy.roundRobin

  @Option(help: "Rounds of each side, 5 at least.")
  var rounds = 25

  @Option(help: "Seconds that each turn is measured for, after a warm-up of a tenth.")
  var seconds = 0.2

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func validate() throws {
    guard ["shm", "tcp"].contains(fabric) else {
      throw ValidationError("expected --fabric shm or tcp, got \(fabric)")
    }
    guard 5...99 ~= rounds else {
      throw ValidationError("expected 5 to 99 rounds, got \(rounds)")
    }
    guard seconds > 0, seconds <= 60 else {
      throw ValidationError("expected more than 0 and at most 60 seconds, got \(seconds)")
    }
  }

  func run() throws {
    let places = (0..<2).map { index in
      fabric == "shm"
        ? "/tmp/fabperf-\(getpid())-\(index).sock" : "127.0.0.1:\(Int.random(in: 19000..<29000))"
    }
    let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().path
    let unit = try OtherProgram(
      name: "\(folder)/iounit",
      arguments: ["serve", "--volume", "memory=memory,size=64MiB", "--quiet"]
        + places.flatMap { ["--listen", "\(fabric):\($0)"] }, processor: 1, isBound: false
    ).start(until: { $0.contains("ready") })
    defer { stop(unit) }
    let addresses = places.map {
      VolumeAddress(
        unit: FabricAddress(fabric: fabric, endpoint: $0), volumeName: "memory")
    }
    let adapter = try FabricChoice(isDirect: false, checksums: .automatic).adapter(for: fabric)
    var report = Report()
    for depth in [1, 32] {
      var one: [Double] = []
      var two: [Double] = []
      for _ in 0..<rounds {
        one.append(try rate([addresses[0]], adapter, depth: depth))
        two.append(try rate(addresses, adapter, depth: depth))
      }
      let direct = Contest.Figures(one)
      let multipath = Contest.Figures(two)
      let ratios = Contest.Figures(zip(two, one).map { $0 / $1 })
      report.add(
        "depth\(depth)",
        [
          ("onePerSecond", direct.median), ("twoPerSecond", multipath.median),
          ("ratio", ratios.median), ("ratioSpread", ratios.innerSpread),
        ])
    }
    report.add("fabric", fabric)
    report.add("policy", policy.rawValue)
    report.add("rounds", rounds)
    try report.print(json: json)
  }

  private func rate(
    _ addresses: [VolumeAddress], _ adapter: any Adapter, depth: Int
  ) throws -> Double {
    let reader = try PathReader(addresses, adapter, depth: depth, policy: policy)
    defer { reader.close() }
    return try reader.rate(seconds: seconds)
  }
}

extension PathPolicy: ExpressibleByArgument {}

/// Reads a volume at random, so many requests at a time.
private final class PathReader {
  private let service: CompletionService
  private var queue: RemoteVolumeQueue!
  private let region: MemoryRegion
  private let depth: Int
  private var endedCount = 0
  private var failedCount = 0
  private var goesOn = true
  private var random: UInt64 = 0x9E37_79B9_7F4A_7C15
  private let relay = Relay()

  init(
    _ addresses: [VolumeAddress], _ adapter: any Adapter, depth: Int, policy: PathPolicy
  ) throws {
    self.depth = depth
    service = try CompletionService()
    var options = RemoteVolumeQueue.Options()
    options.depth = depth
    options.policy = policy
    queue = try RemoteVolumeQueue(
      addresses, adapters: [adapter], service: service, options: options, handler: relay)
    region = try queue.allocate(byteCount: depth * 4096)
    relay.reader = self
    queue.attach()
    let deadline = MonotonicTime.now + .seconds(10)
    service.run(
      until: { [queue] in queue!.pathReports.allSatisfy { $0.state == .ready } },
      deadline: deadline)
    guard deadline > .now else { throw Failure("a path did not come: \(queue.pathReports)") }
  }

  func rate(seconds: Double) throws -> Double {
    for slot in 0..<depth { submit(slot) }
    queue.flushSubmissions()
    turn(for: seconds / 10)
    let before = endedCount
    let start = MonotonicTime.now
    turn(for: seconds)
    let elapsed = Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9
    let count = endedCount - before
    goesOn = false
    guard failedCount == 0 else { throw Failure("\(failedCount) reads failed") }
    return Double(count) / elapsed
  }

  func close() {
    queue.close()
    service.turn()
  }

  private func turn(for seconds: Double) {
    let end = MonotonicTime.now + .seconds(seconds)
    service.run(until: { false }, deadline: end)
  }

  private func submit(_ slot: Int) {
    random ^= random << 13
    random ^= random >> 7
    random ^= random << 17
    queue.submit(
      RemoteRequest(
        .read, block: random % 16384, blockCount: 1, region: region, offset: slot * 4096,
        byteCount: 4096, tag: UInt64(slot)))
  }

  func completed(_ completions: Span<BlockCompletion>) {
    for index in completions.indices {
      endedCount += 1
      if completions[index].status != .success { failedCount += 1 }
      if goesOn { submit(Int(completions[index].tag)) }
    }
    queue.flushSubmissions()
  }
}

/// Hears of the queue for its reader, which keeps both.
private final class Relay: RemoteVolumeHandler {
  weak var reader: PathReader?

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    reader?.completed(completions)
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {}
}
