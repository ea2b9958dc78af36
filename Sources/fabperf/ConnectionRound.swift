import FabricPlatform
import FabricTCP
import Foundation

/// A unit of its own, and so many hosts that attach to it, idle, read and go.
struct ConnectionRound {
  private static let volumeByteCount = 16 << 20
  private static let limit: Duration = .seconds(60)

  /// Reads a second, at each of the two depths.
  let rates: (Double, Double)
  let setUpsPerSecond: Double
  /// What the unit's own memory grew by.
  let bytesPerConnection: Double

  /// - Parameter depths: requests in flight of each host, for each of the two rates.
  init(
    count: Int, depths: (Int, Int), seconds: Double, checksums: TCPOptions.Checksums
  ) throws {
    let unit = try ServingUnit(volumeByteCount: Self.volumeByteCount, checksums: checksums)
    defer { unit.stop() }
    let hosts = try ReadingHosts(
      endpoint: unit.endpoint, depth: max(depths.0, depths.1), checksums: checksums,
      blockCount: Self.volumeByteCount / ReadingHosts.blockByteCount)
    defer { hosts.close() }
    // The unit has all its blocks, and whatever else it needs once, before its memory is looked at.
    try hosts.attach(1, within: Self.limit)
    try hosts.fill(within: Self.limit)
    let before = try unit.ownByteCount()
    let start = MonotonicTime.now
    try hosts.attach(max(1, count - 1), within: Self.limit)
    let elapsed = Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9
    setUpsPerSecond = Double(max(1, count - 1)) / elapsed
    try hosts.readOnce(within: Self.limit)
    bytesPerConnection = Double(try unit.ownByteCount() - before) / Double(max(1, count - 1))
    rates.0 = try hosts.rate(depth: depths.0, seconds: seconds)
    rates.1 = try hosts.rate(depth: depths.1, seconds: seconds)
  }
}

/// `iounit`, which lies beside this program, with a volume in memory.
final class ServingUnit {
  private let process: Process
  /// Where it listens: HOST:PORT.
  let endpoint: String

  convenience init(volumeByteCount: Int, checksums: TCPOptions.Checksums) throws {
    try self.init(
      arguments: [
        "--listen", "tcp:127.0.0.1:0", "--volume", "memory=memory,size=\(volumeByteCount)",
        "--checksums", checksums.rawValue,
      ], isBound: false)
  }

  /// - Parameter arguments: of `iounit serve`; one address of this machine, and what to serve.
  init(arguments: [String], isBound: Bool = true) throws {
    let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().path
    var text = ""
    process = try OtherProgram(
      name: "\(folder)/iounit",
      arguments: ["serve"] + arguments + ["--quiet"], processor: 1, isBound: isBound
    ).start(until: {
      text = $0
      return text.hasSuffix("\n")
    })
    // "ready: 1 volume at fabric+tcp://HOST:PORT"
    guard text.hasPrefix("ready:"),
      let port = text.split(separator: ":").last.flatMap({
        Int($0.trimmingCharacters(in: .whitespacesAndNewlines))
      })
    else {
      fabperf.stop(process)
      throw Failure("expected iounit to say where it listens, got \(text)")
    }
    endpoint = "127.0.0.1:\(port)"
  }

  func stop() { fabperf.stop(process) }

  /// Bytes of memory that the process has, its part of what it shares with others.
  func ownByteCount() throws -> Int {
    let file = try FileHandle(
      forReadingFrom: URL(filePath: "/proc/\(process.processIdentifier)/smaps_rollup"))
    defer { try? file.close() }
    let text = String(decoding: try file.read(upToCount: 1 << 16) ?? Data(), as: UTF8.self)
    guard let line = text.split(separator: "\n").first(where: { $0.hasPrefix("Pss:") }),
      let kilobytes = Int(line.split(separator: " ").dropFirst().first ?? "")
    else { throw Failure("no Pss in /proc/\(process.processIdentifier)/smaps_rollup") }
    return kilobytes << 10
  }
}
