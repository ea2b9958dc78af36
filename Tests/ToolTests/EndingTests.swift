import Foundation
import TestSupport
import Testing

/// Programs that are ended from outside leave nothing behind.
@Suite("Tools, ended by signals", .untilStuck)
struct EndingTests {
  @Test(
    "^C ends a host at once, with one line, and the unit gives back what was its",
    arguments: [
      ["verify", "d", "--passes", "1000"], ["verify", "m", "--passes", "1000", "--json"],
      ["bench", "m", "--seconds", "60"], ["copy", "in", "d"], ["copy", "d", "out"],
    ])
  func host(_ words: [String]) throws {
    let place = try Place()
    let delay = "fault=delay=20ms"
    let unit = try place.serve(
      "d=\(place.file("d.img")),size=64MiB,\(delay)", "m=memory,size=16MiB,\(delay)")
    try Data(count: 64 << 20).write(to: URL(filePath: place.file("in")))
    let arguments = words.map { word in
      switch word {
      case "d", "m": place.url(word)
      case "in", "out": place.file(word)
      default: word
      }
    }
    let host = try Tool("iohost", arguments + ["--host-name", "the-host"])
    #expect(
      unit.waits(
        for: "(process \(host.processIdentifier) of user \(getuid())): attached"), "\(unit.errors)")
    host.signal(SIGINT)
    #expect(host.waitForEnd() == 130)
    let isTold = host.errors.last?.hasPrefix("interrupted") == true
    #expect(isTold && host.output.isEmpty, "\(host.errors)")
    #expect(unit.waits(for: ": detached, the peer's process ended"))
    unit.signal(SIGINT)
    #expect(unit.waitForEnd() == 0)
    let left = try FileManager.default.contentsOfDirectory(atPath: place.path)
    #expect(Set(left) == ["d.img", "d.img.fabric", "in"])
  }

  @Test(
    "A file that is not whole goes with the host that a signal ends, or is told of",
    arguments: [(SIGINT, 130), (SIGTERM, 143), (SIGHUP, 129)] as [(Int32, Int32)])
  func file(_ number: Int32, _ code: Int32) throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=64MiB,fault=delay=20ms")
    // By way of a shell, which tells an end by a signal as a code.
    let script = "$bin/iohost copy \(place.url("m")) \(place.file("out")); exit $?"
    for isNew in [true, false] {
      if !isNew { try Data([1]).write(to: URL(filePath: place.file("out"))) }
      let host = try Tool(shell: script)
      let deadline = Date.now + 30
      while byteCount(place.file("out")) != 64 << 20 {
        try #require(Date.now < deadline, "\(host.errors)")
        usleep(1000)
      }
      let copy = try #require(child(of: host.processIdentifier))
      #expect(kill(copy, number) == 0)
      #expect(host.waitForEnd() == code, "\(host.errors)")
      #expect(host.errors.contains { $0.hasPrefix("interrupted; \(place.file("out")) ") })
      #expect(FileManager.default.fileExists(atPath: place.file("out")) == !isNew)
    }
    unit.signal(SIGINT)
    #expect(unit.waitForEnd() == 0)
  }

  private func byteCount(_ path: String) -> Int {
    (try? FileManager.default.attributesOfItem(atPath: path)[.size] as? Int) ?? 0
  }

  /// The only child of a process.
  private func child(of process: Int32) -> Int32? {
    let path = "/proc/\(process)/task/\(process)/children"
    return (try? String(contentsOfFile: path, encoding: .utf8))?
      .split(separator: " ").first.flatMap { Int32($0) }
  }

  @Test(
    "A unit ends in order when it is told to, or its terminal goes", arguments: [SIGTERM, SIGHUP])
  func unit(_ number: Int32) throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=1MiB")
    unit.signal(number)
    #expect(unit.waitForEnd() == 0 && unit.errors.last == "stopping")
    #expect(try FileManager.default.contentsOfDirectory(atPath: place.path).isEmpty)
  }

  @Test("A unit that was started with nohup outlives its terminal")
  func nohup() throws {
    let place = try Place()
    let unit = try Tool(
      shell: """
        trap '' HUP
        exec $bin/iounit serve --volume m=memory,size=1MiB --listen shm:\(place.path)/u.sock
        """)
    #expect(unit.waits(for: "ready: "))
    unit.signal(SIGHUP)
    // Were it taken, requests would fail.
    #expect(try place.host("bench", place.url("m"), "--seconds", "0.5").waitForEnd() == 0)
    #expect(!unit.errors.contains("stopping"))
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
  }

  @Test("A unit that stands still for seconds is waited for")
  func stopped() throws {
    let place = try Place()
    let unit = try place.serve("d=\(place.file("d.img")),size=16MiB,fault=delay=5ms")
    let verify = try Tool("iohost", ["verify", place.url("d"), "--passes", "2"])
    #expect(verify.waits(for: "generation 1 is written"))
    unit.signal(SIGSTOP)
    // What else waits finds out that time passes.
    let late = try place.host("info", place.url("d"), "--timeout", "4")
    #expect(late.waitForEnd() == 75)
    unit.signal(SIGCONT)
    #expect(verify.waitForEnd() == 0, "\(verify.errors)")
  }

  @Test("Standard streams that are closed, full or left by their reader")
  func standardStreams() throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=16MiB")
    let url = place.url("m")
    func run(_ script: String) throws -> (code: Int32, output: [String], errors: [String]) {
      let tool = try Tool(shell: script)
      return (tool.waitForEnd(), tool.output, tool.errors)
    }
    let left = try run("$bin/iohost read \(url) --count 4096 | true; echo ${PIPESTATUS[0]}")
    #expect(left.output == ["141"] && left.errors.isEmpty, "\(left)")
    for script in ["read \(url) >&-", "read \(url) >/dev/full", "info \(url) >&-", "doctor >&-"] {
      let (code, _, errors) = try run("$bin/iohost \(script)")
      #expect(code == 66 && errors.count == 1, "\(script): \(code), \(errors)")
      #expect(errors.first?.contains("the standard output") == true, "\(errors)")
    }
    // Their numbers must not become those of a socket or of the file.
    let silent = try run("$bin/iohost read \(url) --output \(place.file("out")) <&- >&- 2>&-")
    #expect(silent.code == 0)
    #expect(try Data(contentsOf: URL(filePath: place.file("out"))) == Data(count: 4096))
    let stream = try run(
      "$bin/iohost copy \(url) - | cmp -n 16777216 - /dev/zero; echo ${PIPESTATUS[*]}")
    #expect(stream.output == ["0 0"], "\(stream)")
    #expect(stream.errors.count == 1 && stream.errors[0].hasPrefix("copied 16777216 bytes"))
    _ = unit
  }

  @Test("^C of a measurement leaves no socket and no second process")
  func measurement() throws {
    let place = try Place()
    let fabperf = try Tool(
      shell: "TMPDIR=\(place.path) exec $bin/fabperf latency --seconds 60")
    func sockets() throws -> [String] {
      try FileManager.default.contentsOfDirectory(atPath: place.path).filter {
        $0.hasSuffix(".sock")
      }
    }
    let end = Date(timeIntervalSinceNow: 10)
    while try sockets().isEmpty, Date.now < end {}
    #expect(try sockets().count == 1)
    fabperf.signal(SIGINT)
    // The second process holds the same streams: they end with it.
    #expect(fabperf.waitForEnd(limit: 20) == -SIGINT)
    #expect(try sockets().isEmpty)
  }

  @Test("The sample that listens ends in order", arguments: [SIGINT, SIGTERM])
  func sample(_ number: Int32) throws {
    let place = try Place()
    let pong = try Tool("PingPong", ["pong", place.file("s")])
    // It does not say when it listens.
    let end = Date(timeIntervalSinceNow: 10)
    var answer: [String] = []
    while answer != ["got: pong"], Date.now < end {
      let ping = try Tool("PingPong", ["ping", place.file("s")])
      ping.waitForEnd()
      answer = ping.output
    }
    #expect(answer == ["got: pong"])
    pong.signal(number)
    #expect(pong.waitForEnd() == 0)
    #expect(!FileManager.default.fileExists(atPath: place.file("s")))
  }

  @Test("The sample of the verbs serves one client and ends; a client whose server goes says so")
  func verbsSample() throws {
    let server = try Tool("RPing", ["server", "127.0.0.1:0"])
    #expect(server.waits(for: "ready: "), "\(server.errors)")
    let place = try #require(server.output.first?.dropFirst("ready: ".count))
    let client = try Tool("RPing", ["client", String(place), "4"])
    #expect(client.waitForEnd() == 0, "\(client.errors)")
    #expect(server.waitForEnd() == 0, "\(server.errors)")
    #expect(client.output.count == 4)
    #expect(Array(server.output.dropFirst()) == client.output.map { "server \($0)" })
    let late = try Tool("RPing", ["client", String(place)])
    #expect(late.waitForEnd() == 69)
    #expect(late.errors.count == 1 && late.errors[0].hasPrefix("error: "), "\(late.errors)")
  }
}
