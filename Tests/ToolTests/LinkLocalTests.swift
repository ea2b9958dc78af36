import Foundation
import TestSupport
import Testing

/// Addresses that each link has for itself: with the interface behind them, and without.
@Suite("Tools over TCP, link-local addresses of IPv6", .untilStuck)
struct LinkLocalTests {
  /// One of this machine's without its interface, and that.
  static let own: (host: String, interface: String)? = {
    let list = (try? String(contentsOfFile: "/proc/net/if_inet6", encoding: .utf8)) ?? ""
    for line in list.split(separator: "\n") {
      let words = line.split(separator: " ")
      guard words.count == 6, words[0].hasPrefix("fe80") else { continue }
      let digits = Array(words[0])
      let groups = stride(from: 0, to: digits.count, by: 4).map { String(digits[$0..<$0 + 4]) }
      return (groups.joined(separator: ":"), String(words[5]))
    }
    return nil
  }()

  @Test(
    "A unit listens at one with its interface, says so, and a host finds it there",
    .enabled(if: own != nil, "no interface of this machine has a link-local address"))
  func link() throws {
    let (host, interface) = try #require(Self.own)
    let unit = try Tool(
      "iounit",
      [
        "serve", "--volume", "m=memory,size=1MiB", "--insecure", "--listen",
        "tcp:[\(host)%\(interface)]:0",
      ])
    #expect(unit.waits(for: "ready: ", "%\(interface)]:"), "\(unit.errors)")
    let line = try #require(unit.output.first)
    let start = try #require(line.range(of: "tcp:[")).lowerBound
    let info = try Tool("iohost", ["verify", "fabric+\(Self.url(line[start...]))/m"])
    #expect(info.waitForEnd() == 0, "\(info.errors)")
    for words in [
      [
        "iounit", "serve", "--volume", "m=memory,size=1MiB", "--insecure", "--listen",
        "tcp:[\(host)]:0",
      ],
      ["iohost", "info", "fabric+tcp://[\(host)]:4420/m"],
    ] {
      let lost = try Tool(words[0], Array(words.dropFirst()))
      #expect(lost.waitForEnd() == 69)
      #expect(
        lost.errors.contains { $0.contains("expected the interface behind") }, "\(lost.errors)")
    }
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  /// `tcp:PLACE` as part of a URL.
  private static func url(_ place: Substring) -> String {
    "tcp://" + place.dropFirst(4).prefix { !", ".contains($0) }
  }
}
