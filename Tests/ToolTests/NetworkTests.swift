import Foundation
import TestSupport
import Testing

@Suite(
  "Tools over a network", .serialized, .untilStuck,
  .enabled(if: Wire.isPossible, Wire.comment))
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
