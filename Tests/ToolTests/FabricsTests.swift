import FabricRDMA
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

  @Test("fabric+rdma on a machine without a device: one line, with what to do")
  func noDevice() throws {
    guard RDMASurvey.take().problems.contains(.noDevice) else { return }
    let bad = BadInputTests()
    for words in ["no RDMA device; a card needs its driver", "`iohost doctor` says more"] {
      try bad.host(71, words, "info", "fabric+rdma://192.0.2.1:4420/m")
      try bad.host(71, words, "discover", "rdma:192.0.2.1:4420")
      try bad.unit(
        71, words, "--volume", "m=memory,size=1MiB", "--listen", "rdma:192.0.2.1:0", "--insecure")
      bad.expect(try Tool("fabperf", ["latency", "--fabric", "rdma"]), 71, words, #_sourceLocation)
    }
  }

  @Test("rdma:HOST:PORT is read as tcp:HOST:PORT is, and wants keys as that does")
  func addresses() throws {
    let bad = BadInputTests()
    func unit(_ words: String, _ place: String) throws {
      try bad.unit(64, words, "--volume", "m=memory,size=1MiB", "--listen", place)
    }
    try unit("expected --keys FILE with --listen rdma:192.0.2.1:0", "rdma:192.0.2.1:0")
    try unit("expected --listen shm:PATH|tcp:HOST:PORT|rdma:HOST:PORT", "rdma:")
    try unit("port of 0 to 65535", "rdma:127.0.0.1:")
    try bad.host(64, "HOST:PORT is missing", "info", "fabric+rdma:///disk")
    try bad.host(
      64, "over shared memory, got fabric+rdma://127.0.0.1:1/m", "info",
      "fabric+rdma://127.0.0.1:1/m", "--direct")
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
