import Foundation

/// fio's NBD engine at our unit and at nbdkit: requests of 4096 bytes, at random, to a volume in
/// memory. fio has a processor; where the servers run is the system's choice, as one that may use a
/// single processor does not spin.
struct NBDContest {
  let way: String
  let pattern: String
  let depth: Int
  private let seconds: Double

  static func all(_ seconds: Double) -> [NBDContest] {
    ["tcp", "unix"].flatMap { way in
      [("randread", 1), ("randread", 32), ("randwrite", 32)].map { pattern, depth in
        NBDContest(way: way, pattern: pattern, depth: depth, seconds: seconds)
      }
    }
  }

  var name: String { "nbd \(way) \(pattern) 4096 depth \(depth)" }

  /// A place that nobody listens at yet: for the unit's argument, for nbdkit's, and as a URI.
  private struct Address {
    let port = Int.random(in: 25000..<32000)
    let path = "/tmp/fabperf-nbd-\(UInt32.random(in: 0 ... .max)).sock"

    func uri(_ way: String, export: String) -> String {
      way == "unix" ? "nbd+unix:///\(export)?socket=\(path)" : "nbd://127.0.0.1:\(port)/\(export)"
    }
  }

  func ours() throws -> Double {
    let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
      .deletingLastPathComponent().path
    let address = Address()
    let unit = try OtherProgram(
      name: "\(folder)/iounit",
      arguments: [
        "serve", "--nbd", way == "unix" ? "unix:\(address.path)" : "127.0.0.1:\(address.port)",
        "--volume", "memory=memory,size=64MiB", "--quiet",
      ], processor: 1, isBound: false
    ).start(until: { $0.contains("ready") })
    defer { stop(unit) }
    return try Fio.nbd(
      address.uri(way, export: "memory"), pattern, depth: depth, seconds)
  }

  func theirs() throws -> Double {
    let address = Address()
    let place =
      way == "unix" ? ["-U", address.path] : ["-p", "\(address.port)", "-i", "127.0.0.1"]
    let server = try OtherProgram(
      name: "nbdkit", arguments: ["-f"] + place + ["memory", "64M"], processor: 1,
      isBound: false
    ).start()
    defer {
      stop(server)
      try? FileManager.default.removeItem(atPath: address.path)
    }
    if way == "unix" {
      try OtherProgram.waitForSocket(address.path)
    } else {
      try OtherProgram.waitForListener(port: address.port)
    }
    return try Fio.nbd(address.uri(way, export: ""), pattern, depth: depth, seconds)
  }
}
