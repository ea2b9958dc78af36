import Foundation
import TestSupport
import Testing

/// Our programs and `Tests/Independent`, an implementation in Python that was written from `Specs` alone.
@Suite("The protocols, twice independent", .untilStuck)
struct IndependentTests {
  private static let folder = URL(filePath: #filePath).deletingLastPathComponent()
    .deletingLastPathComponent().appending(path: "Independent").path

  /// Starts one of its programs.
  private func python(_ name: String, _ arguments: String) throws -> Tool {
    try Tool(shell: "exec python3 -B \(Self.folder)/\(name).py \(arguments)")
  }

  /// Its unit, and the unit's URL.
  private func unit(_ options: String = "--volume v") throws -> (tool: Tool, url: String) {
    let tool = try python("unit", "tcp:127.0.0.1:0 --blocks 4096 \(options)")
    try #require(tool.waits(for: "listening tcp:127.0.0.1:"), "\(tool.errors)")
    let line = try #require(tool.output.first { $0.contains("listening ") })
    return (tool, "fabric+tcp://" + line.split(separator: "tcp:")[1])
  }

  /// A key in our form and in its.
  private func key(_ place: Place) throws -> (file: String, words: String) {
    let file = place.file("keys")
    let made = try Tool(shell: "umask 077; $bin/iounit key nqn.both >\(file); cat \(file)")
    #expect(made.waitForEnd() == 0)
    let fields = try #require(made.output.last { !$0.hasPrefix("#") }).split(separator: " ")
    let secret = try #require(Data(base64Encoded: String(fields[1])))
    return (file, "--key nqn.both:" + secret.map { String(format: "%02x", $0) }.joined())
  }

  @Test("Its unit passes every case", arguments: [false, true])
  func judgedUnit(hasKey: Bool) throws {
    let place = try Place()
    let key = hasKey ? try key(place) : nil
    let (unit, url) = try unit("--volume v --volume r --read-only r \(key?.words ?? "")")
    let judge = try Tool(
      shell: "exec $bin/fabconform run \(url)/v --overwrite --json "
        + (key.map { "--key-file \($0.file)" } ?? ""))
    #expect(try ConformanceReport(of: judge).passed > 100)
    unit.signal(SIGKILL)
  }

  @Test("Its host passes every case", arguments: [false, true])
  func judgedHost(hasKey: Bool) throws {
    let place = try Place()
    let key = hasKey ? try key(place) : nil
    let judge = try Tool(
      shell: "exec $bin/fabconform serve tcp:\(FreePort.endpoint()) --json "
        + (key.map { "--key-file \($0.file) " } ?? "")
        + "-- python3 -B \(Self.folder)/host.py {} \(key?.words ?? "")")
    #expect(try ConformanceReport(of: judge).passed > 35)
  }

  @Test("Our host uses its unit")
  func ourHost() throws {
    let place = try Place()
    let (unit, url) = try unit()
    try Data((0..<1_000_000).map { UInt8(truncatingIfNeeded: $0 &* 7 >> 3) }).write(
      to: URL(filePath: place.file("image")))
    for script in [
      "$bin/iohost discover \(url)", "$bin/iohost verify \(url)/v --overwrite",
      "head -c 999424 \(place.file("image")) >\(place.file("whole")); "
        + "$bin/iohost copy \(place.file("whole")) \(url)/v --verify",
      "$bin/iohost copy \(url)/v \(place.file("back")); cmp -n 999424 \(place.file("whole")) \(place.file("back"))",
    ] {
      let tool = try Tool(shell: "set -e; \(script)")
      #expect(tool.waitForEnd() == 0, "\(script): \(tool.output) \(tool.errors)")
    }
    unit.signal(SIGKILL)
  }

  @Test("Its host uses our unit, and goes on where connections are cut")
  func itsHost() throws {
    let place = try Place()
    let port = try FreePort.endpoint()
    let unit = try place.serve("v=memory,size=4MiB", listen: "tcp:\(port),cut=300ms:7")
    let host = try python("host", "fabric+tcp://\(port)/v")
    #expect(host.waitForEnd() == 0, "\(host.output) \(host.errors)")
    #expect(host.output.last?.hasPrefix("verified ") == true)
    let list = try python("host", "list fabric+tcp://\(port)")
    #expect(list.waitForEnd() == 0 && list.output.joined().contains("v"), "\(list.errors)")
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("Its host uses its unit")
  func itself() throws {
    let (unit, url) = try unit()
    let host = try python("host", "\(url)/v")
    #expect(host.waitForEnd() == 0, "\(host.output) \(host.errors)")
    unit.signal(SIGKILL)
  }
}
