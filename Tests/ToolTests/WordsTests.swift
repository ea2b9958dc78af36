import FabricPlatform
import Foundation
import TestSupport
import Testing

/// Mistakes that the tools once took without a word, or answered with one that did not help.
@Suite("Tools, words that help", .serialized, .untilStuck)
struct WordsTests {
  private func fails(
    _ code: Int32, _ words: String..., tool: Tool, location: SourceLocation = #_sourceLocation
  ) {
    for part in words { BadInputTests().expect(tool, code, part, location) }
  }

  @Test(
    "A copy or read that fails leaves no new file, and says of an old one that it is incomplete")
  func incomplete() throws {
    let place = try Place()
    let unit = try place.serve(
      "bad=memory,size=1MiB,fault=error=read:mediaReadError:blocks=200-200")
    let (new, old) = (place.file("new"), place.file("old"))
    try Data("what it held".utf8).write(to: URL(filePath: old))
    for words in [
      ["copy", place.url("bad")], ["read", place.url("bad"), "--count", "256", "--output"],
    ] {
      fails(74, "the medium cannot give back", tool: try Tool("iohost", words + [new]))
      #expect(!FileManager.default.fileExists(atPath: new))
      fails(
        74, "the medium cannot give back", "; \(old) is incomplete",
        tool: try Tool("iohost", words + [old]))
    }
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("An option that counts once is refused when it is given twice")
  func twice() throws {
    let place = try Place()
    for repeated in [["--timeout", "1", "--timeout", "2"], ["--timeout=1", "--timeout", "2"]] {
      fails(
        64, "expected --timeout once, got it more than once",
        tool: try Tool("iohost", ["info", place.url("m")] + repeated))
    }
    let serve = ["serve", "--volume", "a=memory,size=1MiB", "--volume", "b=memory,size=1MiB"]
    fails(
      64, "expected --depth once",
      tool: try Tool(
        "iounit", serve + ["--listen", "shm:\(place.path)/u", "--depth", "1", "--depth", "2"]))
    fails(
      64, "expected --size once", tool: try Tool("fabperf", ["rate", "--size", "1", "--size=2"]))
  }

  @Test("A port where nobody answers, or somebody else, is told from one where nobody listens")
  func otherPorts() throws {
    let any = try #require(InternetAddress.resolve("127.0.0.1:0").first)
    let listener = try StreamSocket.listen(at: any)
    let place = "127.0.0.1:\(try #require(listener.ownAddress?.port))"
    // The kernel connects, and then nobody does anything.
    fails(
      75, "\(place) takes connections, but within 0.75 seconds: expected an MPA reply",
      "got 0 bytes",
      "check that the port is one of iWARP",
      tool: try Tool("iohost", ["info", "fabric+tcp://\(place)/m", "--timeout", "1"]))
    var peers: [StreamSocket] = []
    while let (peer, _) = try listener.accept() { peers.append(peer) }
    let host = try Tool("iohost", ["info", "fabric+tcp://\(place)/m"])
    let deadline = MonotonicTime.now + .seconds(20)
    var other: StreamSocket?
    while other == nil, .now < deadline { other = try listener.accept()?.0 }
    #expect(other?.send(Array("SSH-2.0-OpenSSH_9.2\r\n".utf8)) == .bytes(21))
    fails(
      69, "\(place): expected an MPA reply, got bytes", "another protocol than iWARP", tool: host)
    peers = []
    #expect(other != nil && peers.isEmpty)
  }

  @Test("Every address is 0.0.0.0 and [::], not *; IPv4 within IPv6 is IPv4")
  func addresses() throws {
    let memory = ["serve", "--volume", "m=memory,size=1MiB", "--insecure", "--listen"]
    fails(
      64, "0.0.0.0 is every address of IPv4, [::] every one of IPv6",
      tool: try Tool("iounit", memory + ["tcp:*:0"]))
    fails(64, "0.0.0.0 is every", tool: try Tool("iohost", ["info", "fabric+tcp://*:4420/m"]))
    let tcp = try TCPPlace()
    let unit = try tcp.serve("m=memory,size=1MiB")
    let info = try tcp.host("info", tcp.url("m", host: "[::ffff:127.0.0.1]"))
    #expect(info.waitForEnd() == 0, "\(info.errors)")
    let mapped = try Tool("iounit", memory + ["tcp:[::ffff:127.0.0.1]:0"])
    #expect(mapped.waits(for: "ready: ", "at tcp:127.0.0.1:"), "\(mapped.errors)")
    for tool in [unit, mapped] {
      tool.signal(SIGTERM)
      #expect(tool.waitForEnd() == 0)
    }
  }

  @Test("--direct is refused where it means nothing, and a time-out without end")
  func options() throws {
    fails(
      64, "expected --listen or --i2o shm:PATH with --direct",
      tool: try Tool(
        "iounit",
        ["serve", "--volume", "m=memory,size=1MiB", "--listen", "tcp:127.0.0.1:0", "--direct"]))
    fails(
      64, "over shared memory, got fabric+tcp://127.0.0.1:1/m",
      tool: try Tool("iohost", ["info", "fabric+tcp://127.0.0.1:1/m", "--direct"]))
    fails(
      64, "with --fabric shm, which alone knows it, got tcp",
      tool: try Tool("fabperf", ["latency", "--fabric", "tcp", "--direct"]))
    fails(
      64, "less than 1000000000 seconds, got inf",
      tool: try Tool("iohost", ["info", "fabric+tcp://127.0.0.1:1/m", "--timeout", "inf"]))
  }
}
