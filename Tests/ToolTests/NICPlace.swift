import Foundation
import Testing

/// A unit with a NIC, and hosts in network namespaces of their own, which go with the test.
final class NICPlace {
  let place = try! Place()
  private(set) var unit: Tool?
  private let id = UInt16.random(in: 0 ... .max)
  let hostCount: Int
  private let nic: String
  private let isOverTCP: Bool
  private let unitOptions: String
  /// Where the unit runs; over TCP a wire leads from there to each host.
  var unitNamespace: String { "fabric-nic-\(id)-u" }

  /// What this machine lacks for them; empty: nothing.
  static let lacks: String = {
    if getuid() != 0 { return "network interfaces want root" }
    if !FileManager.default.fileExists(atPath: "/dev/net/tun") { return "/dev/net/tun is missing" }
    for program in [
      "ip", "iperf3", "ping", "busybox", "curl", "dnsmasq", "udhcpc", "tcpdump", "python3",
    ] {
      let paths = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map { "\($0)/\(program)" }
      if !paths.contains(where: FileManager.default.isExecutableFile) {
        return "\(program) is missing: apt-get install iproute2 iperf3 iputils-ping busybox curl "
          + "dnsmasq-base udhcpc tcpdump python3"
      }
    }
    return Wire.isPossible ? "" : "no network namespaces"
  }()

  static var isPossible: Bool { lacks.isEmpty }

  /// - Parameter nic: as `iounit --nic` takes it, without the name.
  init(
    hosts: Int = 2, nic: String = "switch", isOverTCP: Bool = false, unitOptions: String = ""
  ) throws {
    hostCount = hosts
    self.nic = nic
    self.isOverTCP = isOverTCP
    self.unitOptions = unitOptions
    try shell("ip netns add \(unitNamespace); ip -n \(unitNamespace) link set lo up")
    for host in 0..<hosts {
      try shell(
        "ip netns add \(namespace(host)); ip -n \(namespace(host)) link set lo up; "
          + "ip netns exec \(namespace(host)) sysctl -qw net.ipv6.conf.default.accept_dad=0")
      guard isOverTCP else { continue }
      let wire = "w\(host)"
      try shell(
        "ip link add \(wire) netns \(unitNamespace) type veth peer name wire netns \(namespace(host)); "
          + "ip -n \(unitNamespace) address add 198.18.\(host).1/24 dev \(wire); "
          + "ip -n \(unitNamespace) link set \(wire) up; "
          + "ip -n \(namespace(host)) address add 198.18.\(host).2/24 dev wire; "
          + "ip -n \(namespace(host)) link set wire up")
    }
  }

  deinit {
    for host in 0..<hostCount {
      _ = try? run(host, "$bin/iohost nic detach --all \(state)").waitForEnd(limit: 20)
    }
    unit?.signal(SIGKILL)
    unit?.waitForEnd()
    for host in 0..<hostCount {
      _ = try? Tool(shell: "ip netns del \(namespace(host))").waitForEnd()
    }
    _ = try? Tool(shell: "ip netns del \(unitNamespace)").waitForEnd()
  }

  func namespace(_ host: Int) -> String { "fabric-nic-\(id)-\(host)" }
  var state: String { "--state-dir \(place.file("state"))" }
  func address(_ host: Int) -> String { "192.0.2.\(host + 1)" }
  func url(_ host: Int) -> String {
    isOverTCP ? "fabric+tcp://198.18.\(host).1:14420/lan0" : "fabric+shm://\(place.file("u"))/lan0"
  }

  @discardableResult
  func shell(_ script: String) throws -> [String] {
    let tool = try Tool(shell: "set -e; cd \(place.path); \(script)")
    try #require(tool.waitForEnd() == 0, "\(script): \(tool.output) \(tool.errors)")
    return tool.output
  }

  /// Starts a script where a host is.
  func run(_ host: Int, _ script: String) throws -> Tool {
    try Tool(
      shell: "export bin; exec nsenter --net=/run/netns/\(namespace(host)) bash -c "
        + "'cd \(place.path); \(script)'")
  }

  @discardableResult
  func run(_ host: Int, through script: String, limit: Double = 60) throws -> [String] {
    let tool = try run(host, script)
    try #require(
      tool.waitForEnd(limit: limit) == 0, "host \(host): \(script): \(tool.output) \(tool.errors)")
    return tool.output
  }

  func serve() throws {
    let listen = isOverTCP ? "tcp:0.0.0.0:14420 --insecure" : "shm:\(place.file("u"))"
    let unit = try Tool(
      shell: "exec nsenter --net=/run/netns/\(unitNamespace) $bin/iounit serve --listen \(listen) "
        + "--nic lan0=\(nic) \(unitOptions)")
    try #require(unit.waits(for: "ready: "), "\(unit.errors)")
    self.unit = unit
  }

  func killUnit() {
    unit?.signal(SIGKILL)
    unit?.waitForEnd()
    unit = nil
  }

  func attach(_ host: Int, _ options: String = "") throws {
    try run(host, through: "$bin/iohost nic attach \(url(host)) --name fab0 \(state) \(options)")
    try shell(
      "ip -n \(namespace(host)) address replace \(address(host))/24 dev fab0; "
        + "ip -n \(namespace(host)) address replace 2001:db8::\(host + 1)/64 dev fab0 nodad")
  }

  func status(_ host: Int) throws -> [String: Any] {
    let lines = try run(host, through: "$bin/iohost nic list --json \(state)")
    let list = try JSONSerialization.jsonObject(with: Data(lines.joined().utf8))
    return (list as? [[String: Any]])?.first ?? [:]
  }

  /// What both halves have counted: of the host, and of the unit for it.
  func counts(_ host: Int) throws -> (own: [String: Int], unit: [String: Int]) {
    let lines = try run(host, through: "$bin/iohost nic show fab0 --json \(state)")
    let object =
      try JSONSerialization.jsonObject(with: Data(lines.joined().utf8)) as? [String: Any]
    return (
      object?["counts"] as? [String: Int] ?? [:], object?["unitCounts"] as? [String: Int] ?? [:]
    )
  }

  /// Whether a host's interface has a carrier.
  func hasCarrier(_ host: Int) throws -> Bool {
    try shell("ip -n \(namespace(host)) -o link show fab0").first?.contains("LOWER_UP") == true
  }

  func waits(limit: Double = 20, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = Date(timeIntervalSinceNow: limit)
    while Date.now < end {
      if try condition() { return true }
      usleep(20_000)
    }
    return try condition()
  }
}
