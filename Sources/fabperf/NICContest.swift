import FabricPlatform
import Foundation

/// Two hosts in network namespaces: joined by the NICs of one unit's switch, or by pairs of veth and a bridge. iperf3
/// and ping between them. Wants root.
struct NICContest {
  enum Kind: String, CaseIterable {
    case throughput = "iperf3"
    case roundTrip = "ping"
  }

  let kind: Kind
  private let seconds: Double
  /// Names of namespaces: of the two hosts, and of what lies between them.
  private let spaces = ["one", "two", "middle"].map { "fabperf-\(getpid())-\($0)" }

  /// Those that this machine can have.
  static func all(_ seconds: Double) -> [NICContest] {
    guard getuid() == 0, FileManager.default.fileExists(atPath: "/dev/net/tun"),
      ["ip", "iperf3", "ping"].allSatisfy(OtherProgram.isInstalled)
    else { return [] }
    return Kind.allCases.map { NICContest(kind: $0, seconds: seconds) }
  }

  static let peer = "veth and bridge"
  var name: String { "nic shm \(kind.rawValue)" }
  var unit: Contest.Unit { kind == .throughput ? .megabytesPerSecond : .microseconds }

  // MARK: The two sides

  func ours() throws -> Double {
    try inNamespaces {
      let directory = "/tmp/fabperf-nic-\(getpid())"
      let manager = FileManager.default
      try manager.createDirectory(atPath: directory, withIntermediateDirectories: false)
      defer { try? manager.removeItem(atPath: directory) }
      let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().path
      let server = try OtherProgram(
        name: "\(folder)/iounit",
        arguments: ["serve", "--listen", "shm:\(directory)/unit", "--nic", "lan0=switch"],
        processor: 0, isBound: false
      ).start(until: { $0.contains("ready") })
      defer { stop(server) }
      let state = "\(directory)/state"
      for space in spaces.prefix(2) {
        try inSpace(
          space, "\(folder)/iohost", "nic", "attach", "fabric+shm://\(directory)/unit/lan0",
          "--name", "lan", "--state-dir", state)
      }
      defer {
        for space in spaces.prefix(2) {
          _ = try? inSpace(
            space, "\(folder)/iohost", "nic", "detach", "lan", "--state-dir", state)
        }
      }
      return try measure()
    }
  }

  func theirs() throws -> Double {
    try inNamespaces {
      try ip("-n", spaces[2], "link", "add", "bridge", "type", "bridge")
      try ip("-n", spaces[2], "link", "set", "bridge", "up")
      for (index, space) in spaces.prefix(2).enumerated() {
        try ip(
          "link", "add", "port\(index)", "netns", spaces[2], "type", "veth", "peer", "name", "lan",
          "netns", space)
        try ip("-n", spaces[2], "link", "set", "port\(index)", "master", "bridge", "up")
        try ip("-n", space, "link", "set", "lan", "up")
      }
      return try measure()
    }
  }

  // MARK: Measuring

  /// Millions of bytes a second, or the median round trip in microseconds.
  private func measure() throws -> Double {
    for (index, space) in spaces.prefix(2).enumerated() {
      try ip("-n", space, "address", "add", "192.0.2.\(index + 1)/24", "dev", "lan")
    }
    // Until both know each other, and once more for what is only slow at first.
    try inSpace(spaces[0], "ping", "-q", "-c", "1", "-w", "10", "192.0.2.2")
    try inSpace(spaces[0], "ping", "-q", "-c", "100", "-i", "0.002", "192.0.2.2")
    return try kind == .throughput ? stream() : roundTrip()
  }

  private func roundTrip() throws -> Double {
    let text = try inSpace(
      spaces[0], "ping", "-c", "\(max(100, Int(seconds * 500)))", "-i", "0.002", "192.0.2.2")
    let times = text.split(separator: "\n").compactMap { line in
      line.firstMatch(of: /time=([0-9.]+) ms/).flatMap { Double($0.output.1) }
    }.sorted()
    guard !times.isEmpty else { throw Failure("ping printed \(text)") }
    return times[times.count / 2] * 1000
  }

  private func stream() throws -> Double {
    let server = try OtherProgram(
      name: "ip", arguments: ["netns", "exec", spaces[1], "iperf3", "-s", "-1", "--forceflush"],
      processor: 1, isBound: false
    ).start(until: { $0.contains("listening") })
    defer { stop(server) }
    let text = try inSpace(
      spaces[0], "iperf3", "-c", "192.0.2.2", "-J", "-t", "\(max(1, Int(seconds)))")
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8)) as? [String: Any]
    let end = object?["end"] as? [String: Any]
    let sum = end?["sum_received"] as? [String: Any]
    guard let bits = sum?["bits_per_second"] as? Double else {
      throw Failure("iperf3 printed \(text)")
    }
    return bits / 8e6
  }

  // MARK: Around it

  private func inNamespaces(_ body: () throws -> Double) throws -> Double {
    defer { for space in spaces { _ = try? ip("netns", "delete", space) } }
    for space in spaces { try ip("netns", "add", space) }
    return try body()
  }

  private func ip(_ arguments: String...) throws { try run("ip", arguments) }

  @discardableResult
  private func inSpace(_ space: String, _ command: String...) throws -> String {
    try run("ip", ["netns", "exec", space] + command)
  }

  @discardableResult
  private func run(_ name: String, _ arguments: [String]) throws -> String {
    try OtherProgram(name: name, arguments: arguments, processor: 0, isBound: false).output()
  }
}
