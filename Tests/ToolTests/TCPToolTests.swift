import FabricPlatform
import Foundation
import TestSupport
import Testing

/// A unit over TCP, and hosts of it. The system chooses the port, which a unit that comes back keeps.
final class TCPPlace {
  let place: Place
  private(set) var port = 0

  init() throws { place = try Place() }

  func url(_ volume: String, host: String = "127.0.0.1") -> String {
    "fabric+tcp://\(host):\(port)/\(volume)"
  }

  func serve(_ volumes: String..., options: [String] = []) throws -> Tool {
    let unit = try Tool(
      "iounit",
      ["serve", "--listen", "tcp:127.0.0.1:\(port)"] + volumes.flatMap { ["--volume", $0] }
        + options)
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    port = try Self.port(of: unit, at: "tcp:127.0.0.1:")
    return unit
  }

  /// The port behind an address in the "ready" line.
  static func port(of unit: Tool, at prefix: String) throws -> Int {
    let line = try #require(unit.output.first)
    let start = try #require(line.range(of: prefix)).upperBound
    return try #require(Int(line[start...].prefix { $0.isNumber }))
  }

  func host(_ arguments: String..., limit: Double = 60) throws -> Tool {
    let tool = try Tool("iohost", arguments)
    tool.waitForEnd(limit: limit)
    return tool
  }
}

@Suite("Tools over TCP, in processes of their own", .serialized, .untilStuck)
struct TCPToolTests {
  @Test("A pattern is written and verified, and is there after the unit was restarted")
  func restart() throws {
    let tcp = try TCPPlace()
    let volume = "disk=\(tcp.place.file("d.img")),size=16MiB"
    var unit = try tcp.serve(volume)
    let verify = try tcp.host("verify", tcp.url("disk"), "--passes", "2")
    #expect(verify.waitForEnd() == 0, "\(verify.errors)")
    #expect(verify.output == ["verified 4096 blocks of 4096 bytes"])
    #expect(unit.waits(for: "at disk (127.0.0.1:", "attached"))
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
    unit = try tcp.serve(volume)
    let again = try tcp.host("verify", tcp.url("disk"), "--read-only", "--generation", "2")
    #expect(again.waitForEnd() == 0, "\(again.errors)")
    let newer = try tcp.host("verify", tcp.url("disk"), "--read-only", "--generation", "3")
    #expect(newer.waitForEnd() == 1)
  }

  @Test("kill -9 of the unit in mid-write: the host waits, replays, and nothing is lost")
  func unitIsKilled() throws {
    let tcp = try TCPPlace()
    let volume = "disk=\(tcp.place.file("d.img")),size=32MiB,fault=delay=20ms"
    var unit = try tcp.serve(volume)
    let verify = try Tool("iohost", ["verify", tcp.url("disk"), "--passes", "6"])
    for generation in [1, 3] {
      #expect(verify.waits(for: "generation \(generation) is written"), "\(verify.errors)")
      unit.signal(SIGKILL)
      #expect(unit.waitForEnd() == -SIGKILL)
      unit = try tcp.serve(volume)
    }
    #expect(verify.waitForEnd() == 0, "\(verify.errors)")
    #expect(verify.errors.filter { $0.hasPrefix("lost fabric+tcp://") }.count == 2)
    let again = try tcp.host("verify", tcp.url("disk"), "--read-only", "--generation", "6")
    #expect(again.waitForEnd() == 0, "\(again.errors)")
  }

  @Test("kill -9 of the unit, and it stays away: one clear error after --timeout")
  func unitStaysAway() throws {
    let tcp = try TCPPlace()
    let unit = try tcp.serve("disk=\(tcp.place.file("d.img")),size=32MiB,fault=delay=20ms")
    let verify = try Tool(
      "iohost", ["verify", tcp.url("disk"), "--passes", "1000", "--timeout", "1"])
    #expect(verify.waits(for: "generation 1 is written"))
    unit.signal(SIGKILL)
    #expect(verify.waitForEnd() == 75)
    let failures = verify.errors.filter { $0.hasPrefix("error: ") }
    #expect(failures.count == 1 && failures[0].contains("gave up on fabric+tcp://"))
  }

  @Test("kill -9 of a host: the unit notices, others do not")
  func hostIsKilled() throws {
    let tcp = try TCPPlace()
    let unit = try tcp.serve("m=memory,size=16MiB")
    let witness = try Tool("iohost", ["bench", tcp.url("m"), "--seconds", "3", "--json"])
    #expect(unit.waits(for: "attached"))
    for round in 0..<3 {
      let name = "victim-\(round)"
      let victim = try Tool(
        "iohost",
        [
          "bench", tcp.url("m"), "--seconds", "60", "--host-name", name, "--pattern",
          round == 0 ? "randread" : "randwrite",
        ])
      #expect(unit.waits(for: "\(name) at m", "attached"), "\(unit.errors)")
      victim.signal(SIGKILL)
      #expect(unit.waits(for: "\(name) at m", "detached"), "\(unit.errors)")
    }
    #expect(witness.waitForEnd() == 0, "\(witness.errors)")
    #expect(witness.output.first?.contains("\"errors\": 0") == true, "\(witness.output)")
  }

  @Test("One unit over both fabrics, IPv4 and IPv6: what one host writes another reads")
  func both() throws {
    let tcp = try TCPPlace()
    let unit = try tcp.serve(
      "m=memory,size=512KiB", "d=\(tcp.place.file("d.img")),size=512KiB",
      options: ["--listen", "shm:\(tcp.place.path)/u.sock", "--listen", "tcp:[::1]:0"])
    let six = try TCPPlace.port(of: unit, at: "tcp:[::1]:")
    #expect(unit.output.first?.contains(", shm:\(tcp.place.path)/u.sock, tcp:[::1]:") == true)
    let image = Data((0..<1 << 19).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 11) })
    try image.write(to: URL(filePath: tcp.place.file("in")))
    for volume in ["m", "d"] {
      let ways = [
        tcp.place.url(volume), tcp.url(volume), tcp.url(volume, host: "localhost"),
        "fabric+tcp://[::1]:\(six)/\(volume)",
      ]
      for (index, way) in ways.enumerated() {
        let into = try tcp.host("copy", tcp.place.file("in"), way, "--verify")
        #expect(into.waitForEnd() == 0, "\(into.errors)")
        let next = ways[(index + 1) % ways.count]
        let out = try tcp.host("copy", next, tcp.place.file("out"), "--verify")
        #expect(out.waitForEnd() == 0, "\(out.errors)")
        #expect(try Data(contentsOf: URL(filePath: tcp.place.file("out"))) == image)
        try FileManager.default.removeItem(atPath: tcp.place.file("out"))
        try Data(count: 1 << 19).write(to: URL(filePath: tcp.place.file("zeroes")))
        let clear = try tcp.host("copy", tcp.place.file("zeroes"), next)
        #expect(clear.waitForEnd() == 0, "\(clear.errors)")
      }
    }
    let discover = try tcp.host("discover", "tcp:127.0.0.1:\(tcp.port)")
    #expect(
      discover.output.dropFirst() == [
        "\(tcp.url("d"))  512KiB in blocks of 4096", "\(tcp.url("m"))  512KiB in blocks of 4096",
        "also at fabric+shm://\(tcp.place.path)/u.sock", "also at fabric+tcp://[::1]:\(six)",
      ])
    _ = unit
  }

  @Test("Keys over TCP: beyond this machine nobody is served without, unless it is said so")
  func keys() throws {
    let tcp = try TCPPlace()
    let keys = tcp.place.file("keys")
    #expect(try Tool(shell: "umask 077; $bin/iounit key nqn.a >\(keys)").waitForEnd() == 0)
    let other = tcp.place.file("other")
    #expect(try Tool(shell: "umask 077; $bin/iounit key nqn.a >\(other)").waitForEnd() == 0)
    for place in ["0.0.0.0:0", "[::]:0"] {
      BadInputTests().expect(
        try Tool(
          "iounit", ["serve", "--volume", "m=memory,size=1MiB", "--listen", "tcp:\(place)"]),
        64, "expected --keys FILE with --listen tcp:\(place), which other machines can reach",
        #_sourceLocation)
    }
    let unit = try tcp.serve(
      "m=memory,size=1MiB", options: ["--keys", keys, "--listen", "tcp:0.0.0.0:0"])
    let verify = try tcp.host("verify", tcp.url("m"), "--key-file", keys)
    #expect(verify.waitForEnd() == 0, "\(verify.errors)")
    BadInputTests().expect(
      try tcp.host("info", tcp.url("m"), "--key-file", other, "--timeout", "30"), 77,
      "which it did not: compare the keys", #_sourceLocation)
    #expect(unit.waits(for: "refused 127.0.0.1:", "calls itself \"nqn.a\"", "compare the keys"))
    BadInputTests().expect(
      try tcp.host("info", tcp.url("m")), 77, "expected a proven key, got none", #_sourceLocation)
    let open = try Tool(
      "iounit",
      [
        "serve", "--volume", "m=memory,size=1MiB", "--listen", "tcp:0.0.0.0:0", "--insecure",
        "--listen", "tcp:localhost:0",
      ])
    #expect(open.waits(for: "ready: 1 volume at tcp:0.0.0.0:"), "\(open.errors)")
  }

  @Test("A name is listened at with all its addresses, and the wildcards go side by side")
  func names() throws {
    let place = try Place()
    var hosts: [String] = []
    for found in try InternetAddress.resolve("localhost:0") {
      let host = found.host.count == 4 ? found.hostDescription : "[\(found.hostDescription)]"
      if !hosts.contains(host) { hosts.append(host) }
    }
    let unit = try place.serve("m=memory,size=1MiB", listen: "tcp:localhost:0")
    let port = try TCPPlace.port(of: unit, at: "tcp:\(hosts[0]):")
    let listed = hosts.map { "tcp:\($0):\(port)" }.joined(separator: ", ")
    #expect(unit.output == ["ready: 1 volume at \(listed)"])
    for host in hosts + ["localhost"] {
      let info = try place.host("info", "fabric+tcp://\(host):\(port)/m")
      #expect(info.waitForEnd() == 0, "\(info.errors)")
    }
    let four = try place.serve(
      "m=memory,size=1MiB", listen: "tcp:0.0.0.0:0", options: ["--insecure"])
    let open = try TCPPlace.port(of: four, at: "tcp:0.0.0.0:")
    let six = try place.serve(
      "n=memory,size=1MiB", listen: "tcp:[::]:\(open)", options: ["--insecure"])
    for (host, volume) in [("127.0.0.1", "m"), ("[::1]", "n")] {
      let info = try place.host("info", "fabric+tcp://\(host):\(open)/\(volume)")
      #expect(info.waitForEnd() == 0, "\(info.errors)")
    }
    _ = six
  }

  @Test("Checksums: automatic, always or never, on either side")
  func checksums() throws {
    let tcp = try TCPPlace()
    let unit = try tcp.serve("m=memory,size=4MiB", options: ["--checksums", "never"])
    for choice in ["automatic", "always", "never"] {
      let verify = try tcp.host("verify", tcp.url("m"), "--checksums", choice)
      #expect(verify.waitForEnd() == 0, "\(verify.errors)")
      let perf = try Tool(
        "fabperf", ["latency", "--fabric", "tcp", "--checksums", choice, "--seconds", "0.1"])
      #expect(perf.waitForEnd() == 0, "\(perf.errors)")
    }
    for command in ["rate", "bandwidth"] {
      let perf = try Tool("fabperf", [command, "--fabric", "tcp", "--seconds", "0.1", "--json"])
      // Its floor spins on two processors, which other suites use, too.
      #expect(perf.waitForEnd(limit: 240) == 0, "\(perf.errors)")
    }
    BadInputTests().expect(
      try tcp.host("info", tcp.url("m"), "--checksums", "sometimes"), 64, "'sometimes' is invalid",
      #_sourceLocation)
    _ = unit
  }

  @Test("fabperf connections: rates of many beside few, set-up and memory, as JSON")
  func connections() throws {
    let perf = try Tool(
      "fabperf",
      [
        "connections", "--count", "24", "--base", "4", "--depth", "2", "--seconds", "0.02",
        "--json",
      ])
    #expect(perf.waitForEnd(limit: 120) == 0, "\(perf.errors)")
    let object = try JSONSerialization.jsonObject(
      with: Data(perf.output.joined(separator: "\n").utf8))
    let figures = try #require(object as? [String: Any])
    for name in ["sameDepth", "sameTotal"] {
      let row = try #require(figures[name] as? [String: Double])
      #expect(row["perSecond"] ?? 0 > 0 && row["basePerSecond"] ?? 0 > 0 && row["ratio"] ?? 0 > 0)
    }
    #expect(figures["setUpsPerSecond"] as? Double ?? 0 > 0)
    #expect(figures["bytesPerConnection"] as? Double ?? 0 > 0)
    #expect(figures["count"] as? Int == 24 && figures["base"] as? Int == 4)
    for (words, arguments) in [
      ("got 2001", ["--count", "2001"]),
      ("fewer than --count, got 9", ["--count", "9", "--base", "9"]),
      ("got 0", ["--depth", "0"]), ("got 4", ["--rounds", "4"]), ("got 0.0", ["--seconds", "0"]),
    ] {
      BadInputTests().expect(
        try Tool("fabperf", ["connections"] + arguments), 64, words, #_sourceLocation)
    }
  }

  @Test("Addresses that are none, and places where nobody is, get one line")
  func badInput() throws {
    let tcp = try TCPPlace()
    func host(
      _ code: Int32, _ words: String, _ arguments: String...,
      location: SourceLocation = #_sourceLocation
    ) throws {
      BadInputTests().expect(try Tool("iohost", arguments), code, words, location)
    }
    func unit(
      _ code: Int32, _ words: String, _ listen: String,
      location: SourceLocation = #_sourceLocation
    ) throws {
      BadInputTests().expect(
        try Tool("iounit", ["serve", "--volume", "m=memory,size=1MiB", "--listen", listen]), code,
        words, location)
    }
    try host(
      64, "fabric+tcp://HOST:PORT/VOLUME, got \"fabric+tcp://host/disk\"", "info",
      "fabric+tcp://host/disk")
    try host(64, "port of 0 to 65535", "info", "fabric+tcp://host:70000/disk")
    try host(64, "expected a port of 1 to 65535, found 0", "info", "fabric+tcp://host:0/disk")
    try host(64, "in brackets", "info", "fabric+tcp://::1:4420/disk")
    try host(64, "HOST:PORT is missing", "info", "fabric+tcp:///disk")
    try host(64, "has no \"/\" in it", "info", "fabric+tcp://host:1/a/b")
    try host(64, "a host's name or address", "info", "fabric+tcp://user@host:1/a")
    try host(64, "volume; use fabric+tcp://host:1", "discover", "fabric+tcp://host:1/a")
    try host(
      64, "unit's URL such as fabric+shm:///run/user/1000/unit.sock or fabric+tcp://HOST:PORT, got",
      "discover", "tcp:host:1/a")
    try host(64, "use fabric+tcp://host:1/a", "info", "tcp:host:1/a")
    try host(64, "use fabric+tcp://host:1 with --emulate i2o", "discover", "i2o+tcp:host:1")
    try host(64, "use fabric+tcp://host:1/a with --emulate i2o", "info", "i2o+tcp:host:1/a")
    try host(64, "use fabric+shm:///u.sock with --emulate i2o", "discover", "i2o+shm:/u.sock")
    try unit(64, "expected --listen shm:PATH|tcp:HOST:PORT", "tcp:")
    try unit(64, "port of 0 to 65535", "tcp:127.0.0.1:")
    try unit(64, "in brackets", "tcp:::1:0")
    try unit(69, "a host that can be found", "tcp:no.such.host.invalid:0")
    // An address of no machine (RFC 5737).
    try unit(64, "expected --keys FILE", "tcp:192.0.2.1:0")
    let serving = try tcp.serve("m=memory,size=1MiB")
    try unit(69, "127.0.0.1:\(tcp.port)", "tcp:127.0.0.1:\(tcp.port)")
    try host(69, "one of the volumes m, got \"n\"", "info", tcp.url("n"))
    try host(64, "one of its volumes: m", "info", "fabric+tcp://127.0.0.1:\(tcp.port)")
    try host(64, "one of its volumes: m", "info", "fabric+tcp://127.0.0.1:\(tcp.port)/")
    serving.signal(SIGTERM)
    #expect(serving.waitForEnd() == 0)
    try host(69, "127.0.0.1:\(tcp.port)", "info", tcp.url("m"))
    try host(75, "gave up on \(tcp.url("m"))", "info", tcp.url("m"), "--timeout", "0.3")
  }
}
