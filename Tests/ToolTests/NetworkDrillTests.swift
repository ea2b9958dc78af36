import Foundation
import TestSupport
import Testing

/// File systems on a device whose paths go over two networks, while cables of these go out at random.
///
/// `CHANNELFABRIC_DRILL_SECONDS` makes it last longer, with xfs, too; a seed in `CHANNELFABRIC_DRILL_SEED` repeats
/// the cuts.
@Suite(
  "iohost attach over two networks", .serialized, .untilStuck,
  .enabled(if: LoopPlace.isPossible, Comment(rawValue: LoopPlace.lacks)),
  .enabled(if: Wire.isPossible, Wire.comment))
struct NetworkDrillTests {
  private static let environment = ProcessInfo.processInfo.environment
  private static let seconds = environment["CHANNELFABRIC_DRILL_SECONDS"].flatMap { Int($0) }

  @Test(
    "HD-50: cables go out at random under file systems: no error, nothing lost",
    arguments: seconds == nil ? ["ext4"] : ["ext4", "xfs"])
  func drill(kind: String) throws {
    let seconds = Self.seconds ?? 20
    let seed =
      Self.environment["CHANNELFABRIC_DRILL_SEED"].flatMap { UInt64($0) }
      ?? .random(in: 1...1 << 32)
    print("cables that go out: seed \(seed)")
    let place = try Place()
    let wire = try Wire(count: 2)
    let addresses = ["192.0.2.1", "198.51.100.1"]
    let unit = try wire.serve(
      "--volume disk=\(place.file("d.img")),size=600MiB", at: addresses)
    let state = "--state-dir \(place.file("state"))"
    let urls = addresses.map { "fabric+tcp://\($0):4420/disk" }.joined(separator: " ")
    let attaching = try wire.host("attach \(urls) --as loop --silence 2 \(state)")
    try #require(attaching.waitForEnd(limit: 30) == 0, "\(attaching.errors)")
    let device = try #require(attaching.output.first)
    defer { _ = try? wire.host("detach --all --force \(state)").waitForEnd(limit: 30) }

    let script = FileSystemWork(kind: kind, device: device, seconds: seconds).script
    let work = try Tool(
      shell: "set -ex -o pipefail; cd \(place.path); \(script); set +x; echo the work is done")
    try cutCables(of: wire, while: work, seed: seed)
    #expect(work.waitForEnd(limit: Double(seconds) * 3 + 120) == 0, "\(work.output) \(work.errors)")

    let found = try wire.host("paths --json \(state)")
    try #require(found.waitForEnd() == 0, "\(found.errors)")
    let list = try JSONSerialization.jsonObject(with: Data(found.output.joined().utf8))
    let paths = try #require((list as? [[String: Any]])?.first?["paths"] as? [[String: Any]])
    #expect(paths.allSatisfy { ($0["requests"] as? Int ?? 0) > 100 }, "\(paths)")
    #expect(paths.allSatisfy { $0["errors"] as? Int == 0 }, "\(paths)")
    let losses = paths.reduce(0) { $0 + ($1["losses"] as? Int ?? 0) }
    #expect(losses > 0, "a drill without losses: \(paths)")
    // Another test's program may have looked at every loop device just then, or have a copy of the mount.
    let end = Date(timeIntervalSinceNow: 60)
    var detaching = try wire.host("detach --all \(state)")
    while detaching.waitForEnd(limit: 30) == 74, Date.now < end {
      detaching = try wire.host("detach --all \(state)")
    }
    #expect(detaching.waitForEnd(limit: 30) == 0, "\(detaching.errors)")
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  /// One cable at a time, sometimes both. Nobody tells the connections: after 2 s and a bit of silence they count as lost;
  /// what is shorter is a pause. The first cut is one that is noticed.
  private func cutCables(of wire: Wire, while work: Tool, seed: UInt64) throws {
    var random = SeededGenerator(seed: seed)
    var cut = [0]
    var length = 5.0
    func hasEnded(within seconds: Double) -> Bool {
      work.waits(for: "the work is done", limit: seconds) || !work.isRunning
    }
    while !hasEnded(within: .random(in: 1...3, using: &random)) {
      for cable in cut { try wire.setLink(cable, isUp: false) }
      let isOver = hasEnded(within: length)
      for cable in cut { try wire.setLink(cable, isUp: true) }
      if isOver { return }
      cut = [[0], [1], [0, 1]].randomElement(using: &random)!
      length = .random(in: 1...5, using: &random)
    }
  }
}
