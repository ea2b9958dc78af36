import Foundation
import TestSupport
import Testing

/// Two hosts of this machine with a wire between them: network namespaces with a pair of virtual
/// interfaces, which go with the object.
private final class Wire {
  private let id = UInt16.random(in: 0 ... .max)
  private var left: String { "fabric-left-\(id)" }
  private var right: String { "fabric-right-\(id)" }
  private var leftInterface: String { "fab\(id)l" }
  private var rightInterface: String { "fab\(id)r" }

  init() throws {
    try run(
      "ip netns add \(left); ip netns add \(right); ip link add \(leftInterface) netns \(left) "
        + "type veth peer name \(rightInterface) netns \(right)")
    for (place, interface, number) in [(left, leftInterface, 1), (right, rightInterface, 2)] {
      // Addresses for documentation, which belong to nobody. (RFC 5737, RFC 3849)
      try run(
        "ip -n \(place) address add 192.0.2.\(number)/24 dev \(interface); "
          + "ip -n \(place) address add 2001:db8::\(number)/64 dev \(interface) nodad; "
          + "ip -n \(place) link set lo up; ip -n \(place) link set \(interface) up")
    }
  }

  deinit { _ = try? Tool(shell: "ip netns del \(left); ip netns del \(right)").waitForEnd() }

  private func run(_ script: String) throws {
    let tool = try Tool(shell: "set -e; \(script)")
    try #require(tool.waitForEnd() == 0, "\(script): \(tool.errors)")
  }

  /// A unit on the left.
  func serve(_ words: String) throws -> Tool {
    let unit = try Tool(
      shell: "exec ip netns exec \(left) $bin/iounit serve --insecure --listen tcp:192.0.2.1:4420 "
        + "--listen 'tcp:[2001:db8::1]:4420' \(words)")
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    return unit
  }

  /// A host on the right.
  func host(_ words: String) throws -> Tool {
    try Tool(shell: "exec ip netns exec \(right) $bin/iohost \(words)")
  }

  func setLink(isUp: Bool) throws {
    try run("ip -n \(right) link set \(rightInterface) \(isUp ? "up" : "down")")
  }

  /// Whether this machine lets this user make one.
  static let isPossible: Bool = {
    let name = "fabric-probe-\(UInt16.random(in: 0 ... .max))"
    let probe = try? Tool(shell: "ip netns add \(name) && ip netns del \(name)")
    return probe?.waitForEnd() == 0
  }()
}

@Suite(
  "Tools over a network", .serialized, .untilStuck,
  .enabled(if: Wire.isPossible, "no network namespaces: not root, or iproute2 is not installed"))
struct NetworkTests {
  @Test("copy, verify and bench work between two machines, by IPv4 and by IPv6")
  func everyday() throws {
    let place = try Place()
    let wire = try Wire()
    let unit = try wire.serve("--volume m=memory,size=8MiB")
    let image = Data((0..<8 << 20).map { UInt8(truncatingIfNeeded: $0 &* 11 &+ $0 >> 13) })
    try image.write(to: URL(filePath: place.file("in")))
    for (round, host) in ["192.0.2.1", "[2001:db8::1]"].enumerated() {
      let url = "'fabric+tcp://\(host):4420/m'"
      let out = place.file("out-\(round)")
      for words in [
        "copy \(place.file("in")) \(url) --verify", "copy \(url) \(out)",
        "bench \(url) --seconds 0.3", "verify \(url) --overwrite",
      ] {
        let tool = try wire.host(words)
        #expect(tool.waitForEnd() == 0, "\(words): \(tool.errors)")
      }
      #expect(try Data(contentsOf: URL(filePath: out)) == image)
    }
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("a cable that is out for 5 s in the middle loses nothing")
  func cable() throws {
    let place = try Place()
    let wire = try Wire()
    let volume = "--volume d=\(place.file("d.img")),size=16MiB,fault=delay=10ms"
    let unit = try wire.serve(volume)
    let url = "fabric+tcp://192.0.2.1:4420/d"
    let verify = try wire.host("verify \(url) --passes 12")
    #expect(verify.waits(for: "generation 2 is written"), "\(verify.errors)")
    try wire.setLink(isUp: false)
    // Nothing comes through: what is waited for is the end of the 5 s.
    #expect(!verify.waits(for: "generation 12 is written", limit: 5))
    try wire.setLink(isUp: true)
    #expect(verify.waitForEnd(limit: 90) == 0, "\(verify.errors)")
    let again = try wire.host("verify \(url) --read-only --generation 12")
    #expect(again.waitForEnd() == 0, "\(again.errors)")
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }
}
