import Foundation
import Testing

@Suite("Tools: RDMA devices")
struct FabricsTests {
  @Test("discover --fabrics says what this machine has, also as JSON, and doctor agrees")
  func fabrics() throws {
    let place = try Place()
    let words = try place.host("discover", "--fabrics")
    #expect(words.waitForEnd() == 0, "\(words.errors)")
    let json = try place.host("discover", "--fabrics", "--json")
    let found = try #require(
      JSONSerialization.jsonObject(with: Data(json.output.joined().utf8)) as? [String: Any])
    let isUsable = try #require(found["usable"] as? Bool)
    let devices = try #require(found["devices"] as? [Any])
    let doctor = try place.host("doctor")
    #expect(doctor.output.contains { $0.hasPrefix(isUsable ? "fine  rdma" : "note  rdma") })
    guard devices.isEmpty else { return }
    #expect(words.output.contains { $0.contains("no RDMA device; ") }, "\(words.output)")
  }

  @Test("discover wants the URL of a unit or --fabrics")
  func oneOfBoth() throws {
    for (arguments, got) in [([], "neither"), (["--fabrics", "shm:/tmp/u.sock"], "both")] {
      let tool = try Tool("iohost", ["discover"] + arguments)
      #expect(tool.waitForEnd() == 64)
      #expect(tool.errors.contains { $0.contains("or --fabrics, got \(got)") }, "\(tool.errors)")
    }
  }
}
