import Foundation

/// Random reads of 4096 bytes from a volume in memory, 32 at a time, over TCP.
struct BlockContest {
  private let seconds: Double
  private static let byteCount = "64MiB"

  init(_ seconds: Double) { self.seconds = seconds }

  /// Requests a second from our unit, which lies beside this program.
  func ours(_ checksums: String) throws -> Double {
    let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().path
    let port = Int.random(in: 19000..<22000)
    let unit = try OtherProgram(
      name: "\(folder)/iounit",
      arguments: [
        "serve", "--listen", "tcp:127.0.0.1:\(port)", "--volume",
        "memory=memory,size=\(Self.byteCount)", "--checksums", checksums, "--quiet",
      ], processor: 1
    ).start(until: { $0.contains("ready") })
    defer { stop(unit) }
    let text = try OtherProgram(
      name: "\(folder)/iohost",
      arguments: [
        "bench", "fabric+tcp://127.0.0.1:\(port)/memory", "--seconds", "\(seconds)", "--depth",
        "32", "--checksums", checksums, "--json",
      ], processor: 0
    ).output()
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    guard let rate = object?["iops"] as? Double else {
      throw Failure("iohost printed \(text)")
    }
    return rate
  }

  /// Requests a second from nbdkit.
  func theirs() throws -> Double {
    let port = Int.random(in: 22000..<25000)
    let server = try OtherProgram(
      name: "nbdkit", arguments: ["-f", "-p", "\(port)", "-i", "127.0.0.1", "memory", "64M"],
      processor: 1
    ).start()
    defer { stop(server) }
    try OtherProgram.waitForListener(port: port)
    return try Fio.nbd("nbd://127.0.0.1:\(port)/", "randread", depth: 32, seconds)
  }
}
