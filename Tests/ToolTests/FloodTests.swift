import FabricPlatform
import Foundation
import TestSupport
import Testing

/// Strangers by the hundred at a unit's door.
@Suite("Tools, floods over TCP", .serialized, .untilStuck)
struct FloodTests {
  /// Connections that ask as iWARP does, and then say nothing more.
  private func strangers(_ count: Int, at port: Int) throws -> [StreamSocket] {
    let place = try #require(InternetAddress.resolve("127.0.0.1:\(port)").first)
    let request = Array("MPA ID Req Frame".utf8) + [0x40, 1, 0, 0]
    return try (0..<count).map { _ in
      let socket = try StreamSocket.connect(to: place)
      try wait("it is connected") {
        socket.connectError == nil && socket.send(request) == .bytes(20)
      }
      return socket
    }
  }

  private func wait(_ words: String, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(30)
    while try !condition() {
      try #require(MonotonicTime.now < deadline, "within 30 s: \(words)")
      usleep(1000)
    }
  }

  @Test("A unit with keys logs a few of the strangers that it refuses, and counts the others")
  func refusals() throws {
    let tcp = try TCPPlace()
    let keys = tcp.place.file("keys")
    #expect(try Tool(shell: "umask 077; $bin/iounit key a >\(keys)").waitForEnd() == 0)
    let unit = try tcp.serve("m=memory,size=1MiB", options: ["--keys", keys])
    var peers = try strangers(200, at: tcp.port)
    for peer in peers {
      var bytes: [UInt8] = []
      try wait("the unit answers") { peer.receive(into: &bytes, limit: 64) != .wouldBlock }
    }
    peers = []
    #expect(unit.waits(for: "refused ", " more connections in the last second"), "\(unit.errors)")
    let url = tcp.url("m")
    let host = try tcp.host("info", url, "--key-file", keys, "--timeout", "20")
    #expect(host.waitForEnd() == 0, "\(host.errors)")
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
    let lines = unit.errors.filter { $0.hasPrefix("refused ") }
    let told = lines.count { $0.hasPrefix("refused 127.0.0.1:") }
    // Each second at most six lines of one kind or the other; the flood takes a few.
    #expect(told < 50 && lines.count < 60, "\(lines)")
  }

  @Test("A unit that has no descriptor left says so once, and serves on when there is one")
  func descriptors() throws {
    let place = try Place()
    let unit = try Tool(
      shell: "ulimit -n 40; exec $bin/iounit serve --listen tcp:127.0.0.1:0 "
        + "--volume m=memory,size=1MiB")
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    let port = try TCPPlace.port(of: unit, at: "tcp:127.0.0.1:")
    var peers = try strangers(100, at: port)
    #expect(unit.waits(for: "expected to take another connection", "ulimit -n"), "\(unit.errors)")
    #expect(peers.count == 100)
    peers = []
    let host = try place.host("info", "fabric+tcp://127.0.0.1:\(port)/m", "--timeout", "20")
    #expect(host.waitForEnd() == 0, "\(host.errors)")
    #expect(unit.errors.count { $0.contains("expected to take another connection") } == 1)
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("What a flood made a unit take it gives back to the system")
  func memory() throws {
    let tcp = try TCPPlace()
    let unit = try tcp.serve("m=memory,size=1MiB")
    let files = ProcessFiles(of: unit.processIdentifier)
    let before = try files.residentByteCount()
    var peers = try strangers(600, at: tcp.port)
    try wait("the unit has taken memory") { try files.residentByteCount() > before + 20 << 20 }
    #expect(peers.count == 600)
    peers = []
    try wait("it has given it back") { try files.residentByteCount() < before + 10 << 20 }
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }
}
