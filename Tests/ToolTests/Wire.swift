import Foundation
import TestSupport
import Testing

/// Two hosts of this machine with a wire between them, or two: network namespaces with pairs of virtual
/// interfaces, which go with the object.
final class Wire {
  private let id = UInt16.random(in: 0 ... .max)
  private var left: String { "fabric-left-\(id)" }
  private var right: String { "fabric-right-\(id)" }
  // Addresses for documentation, which belong to nobody. (RFC 5737, RFC 3849)
  private static let prefixes = [("192.0.2", "2001:db8"), ("198.51.100", "2001:db8:1")]

  init(count: Int = 1) throws {
    try run("ip netns add \(left); ip netns add \(right)")
    for wire in 0..<count {
      try run(
        "ip link add \(interface(wire, "l")) netns \(left) type veth "
          + "peer name \(interface(wire, "r")) netns \(right)")
      let (four, six) = Self.prefixes[wire]
      for (place, side, number) in [(left, "l", 1), (right, "r", 2)] {
        let interface = interface(wire, side)
        try run(
          "ip -n \(place) address add \(four).\(number)/24 dev \(interface); "
            + "ip -n \(place) address add \(six)::\(number)/64 dev \(interface) nodad; "
            + "ip -n \(place) link set lo up; ip -n \(place) link set \(interface) up")
      }
    }
  }

  deinit { _ = try? Tool(shell: "ip netns del \(left); ip netns del \(right)").waitForEnd() }

  private func interface(_ wire: Int, _ side: String) -> String { "fab\(id)\(side)\(wire)" }

  private func run(_ script: String) throws {
    let tool = try Tool(shell: "set -e; \(script)")
    try #require(tool.waitForEnd() == 0, "\(script): \(tool.errors)")
  }

  /// A unit on the left.
  func serve(_ words: String, at addresses: [String] = ["192.0.2.1", "[2001:db8::1]"]) throws
    -> Tool
  {
    let listens = addresses.map { "--listen 'tcp:\($0):4420'" }.joined(separator: " ")
    let unit = try Tool(
      shell: "exec nsenter --net=/run/netns/\(left) $bin/iounit serve --insecure "
        + "\(listens) \(words)")
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    return unit
  }

  /// A host on the right, which sees the mounts of this machine and makes its own here.
  func host(_ words: String) throws -> Tool {
    try Tool(shell: "exec nsenter --net=/run/netns/\(right) $bin/iohost \(words)")
  }

  func setLink(_ wire: Int = 0, isUp: Bool) throws {
    try run("ip -n \(right) link set \(interface(wire, "r")) \(isUp ? "up" : "down")")
  }

  /// Whether this machine lets this user make one.
  static let isPossible: Bool = {
    let name = "fabric-probe-\(UInt16.random(in: 0 ... .max))"
    let probe = try? Tool(shell: "ip netns add \(name) && ip netns del \(name)")
    return probe?.waitForEnd() == 0
  }()

  static let comment: Comment = "no network namespaces: not root, or iproute2 is not installed"
}
