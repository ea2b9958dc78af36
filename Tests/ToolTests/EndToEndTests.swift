import Foundation
import TestSupport
import Testing

@Suite("Tools, in processes of their own", .serialized, .untilStuck)
struct EndToEndTests {
  @Test("A pattern is written and verified, and is there after the unit was restarted")
  func restart() throws {
    let place = try Place()
    let volume = "disk=\(place.file("d.img")),size=16MiB"
    var unit = try place.serve(volume)
    let verify = try place.host("verify", place.url("disk"), "--passes", "2")
    #expect(verify.waitForEnd() == 0, "\(verify.errors)")
    #expect(verify.output == ["verified 4096 blocks of 4096 bytes"])
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0)
    #expect(!FileManager.default.fileExists(atPath: place.file("u.sock")))
    unit = try place.serve(volume)
    let again = try place.host(
      "verify", place.url("disk"), "--read-only", "--generation", "2")
    #expect(again.waitForEnd() == 0, "\(again.errors)")
    // What is not there is found out, too.
    let newer = try place.host(
      "verify", place.url("disk"), "--read-only", "--generation", "3", "--json")
    #expect(newer.waitForEnd() == 1)
    #expect(newer.output.first?.contains("\"wrongCount\": 4096") == true)
    let quiet = try place.host("verify", place.url("disk"), "--json")
    #expect(quiet.waitForEnd() == 0)
    #expect(quiet.output.first?.contains("\"bytesPerSecond\": ") == true, "\(quiet.output)")
    #expect(quiet.output.count == 1 && quiet.errors.isEmpty, "\(quiet.errors)")
    let other = try place.host("verify", place.url("disk"), "--read-only", "--seed", "5")
    #expect(other.waitForEnd() == 1)
  }

  @Test(
    "A socket's path may begin here: what is said of it does not, and info says what may be done")
  func relativePaths() throws {
    let place = try Place()
    let script = """
      cd \(place.path) && PATH=$bin:$PATH
      iounit serve --listen shm:u.sock --volume r=memory,size=1MiB,readonly \\
        --volume w=memory,size=1MiB >ready & unit=$!
      until [ -s ready ]; do read -t 0.05 <> <(:) || :; done
      cat ready
      for url in $(iohost discover shm:./u.sock | sed -n 's/^\\(fabric[^ ]*\\) .*/\\1/p'); do
        iohost info $url | grep -E 'volume|access'
        iohost info $url --json | grep -o '"readOnly": [a-z]*'
      done
      kill $unit; wait $unit
      """
    let tool = try Tool(shell: script)
    #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    #expect(
      tool.output == [
        "ready: 2 volumes at shm:\(place.path)/u.sock",
        "volume     \(place.url("r"))", "access     read-only", "\"readOnly\": true",
        "volume     \(place.url("w"))", "access     may be read and written", "\"readOnly\": false",
      ], "\(tool.errors)")
  }

  @Test("kill -9 of the unit in mid-write: the host waits, replays, and nothing is lost")
  func unitIsKilled() throws {
    let place = try Place()
    let volume = "disk=\(place.file("d.img")),size=32MiB,fault=delay=20ms"
    var unit = try place.serve(volume)
    let verify = try Tool("iohost", ["verify", place.url("disk"), "--passes", "6"])
    for generation in [1, 3] {
      #expect(verify.waits(for: "generation \(generation) is written"), "\(verify.errors)")
      unit.signal(SIGKILL)
      #expect(unit.waitForEnd() == -SIGKILL)
      unit = try place.serve(volume)
    }
    #expect(verify.waitForEnd() == 0, "\(verify.errors)")
    #expect(verify.errors.filter { $0.hasPrefix("lost fabric+shm://") }.count == 2)
    #expect(verify.errors.contains { $0.contains("attempt 1, next in") })
    let again = try place.host(
      "verify", place.url("disk"), "--read-only", "--generation", "6")
    #expect(again.waitForEnd() == 0, "\(again.errors)")
  }

  @Test("kill -9 of the unit, and it stays away: one clear error after --timeout")
  func unitStaysAway() throws {
    let place = try Place()
    let unit = try place.serve("disk=\(place.file("d.img")),size=32MiB,fault=delay=20ms")
    let verify = try Tool(
      "iohost", ["verify", place.url("disk"), "--passes", "1000", "--timeout", "1"])
    #expect(verify.waits(for: "generation 1 is written"))
    unit.signal(SIGKILL)
    #expect(verify.waitForEnd() == 75)
    let failures = verify.errors.filter { $0.hasPrefix("error: ") }
    #expect(failures.count == 1)
    #expect(failures.first?.contains("gave up on fabric+shm://") == true)
  }

  @Test("kill -9 of hosts: the unit gives back what was theirs, others notice nothing")
  func hostIsKilled() throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=16MiB", "d=\(place.file("d.img")),size=16MiB")
    let witness = try Tool(
      "iohost", ["bench", place.url("m"), "--depth", "4", "--seconds", "6", "--json"])
    let files = ProcessFiles(of: unit.processIdentifier)
    func descriptorCount() throws -> Int { try files.descriptors().count }
    func mapCount() throws -> Int { try files.maps().count }
    /// Waits until the unit has as few descriptors and maps as before.
    func waitForReturn(_ descriptors: Int, _ maps: Int) throws -> Bool {
      let end = Date(timeIntervalSinceNow: 5)
      while Date.now < end {
        if try descriptorCount() <= descriptors, try mapCount() <= maps + 8 { return true }
      }
      return false
    }
    // The first of each opens the ports, which stay.
    for (volume, pattern) in [
      ("m", "randread"), ("m", "randwrite"), ("d", "randread"), ("d", "randwrite"),
    ] {
      let name = "first-\(volume)-\(pattern)"
      let bench = try place.host(
        "bench", place.url(volume), "--seconds", "0.1", "--pattern", pattern, "--host-name", name)
      #expect(bench.waitForEnd() == 0, "\(bench.errors)")
      #expect(
        unit.waits(for: "\(name) at \(volume) ", "detached, closed by the peer"), "\(unit.errors)")
    }
    let descriptors = try descriptorCount()
    let maps = try mapCount()
    for round in 0..<6 {
      let name = "victim-\(round)"
      let victim = try Tool(
        "iohost",
        [
          "bench", place.url(round % 2 == 0 ? "m" : "d"), "--seconds", "60", "--host-name", name,
          "--pattern", round < 3 ? "randread" : "randwrite",
        ])
      #expect(unit.waits(for: "\(name) at"), "\(unit.errors)")
      victim.signal(SIGKILL)
      let killed = Date.now
      #expect(unit.waits(for: "\(name) at", "detached, the peer"))
      #expect(Date.now.timeIntervalSince(killed) < 1)
    }
    #expect(try waitForReturn(descriptors, maps))
    #expect(witness.waitForEnd() == 0, "\(witness.errors)")
    #expect(witness.output.first?.contains("\"errors\": 0") == true, "\(witness.output)")
  }

  @Test("Images are copied both ways and compared; blocks are read and written")
  func copies() throws {
    let place = try Place()
    let unit = try place.serve("disk=\(place.file("d.img")),size=8MiB,block=512")
    let image = Data((0..<(3 << 20) + 1024).map { UInt8(truncatingIfNeeded: $0 &* 7 &+ $0 >> 9) })
    try image.write(to: URL(filePath: place.file("in")))
    let into = try place.host("copy", place.file("in"), place.url("disk"), "--verify", "--json")
    #expect(into.waitForEnd() == 0, "\(into.errors)")
    #expect(into.output.first?.contains("\"verified\": true") == true)
    let out = try place.host("copy", place.url("disk"), place.file("out"), "--verify")
    #expect(out.waitForEnd() == 0, "\(out.errors)")
    let back = try Data(contentsOf: URL(filePath: place.file("out")))
    #expect(back.count == 8 << 20)
    #expect(back.prefix(image.count) == image)
    #expect(out.output.first?.hasPrefix("copied 8388608 bytes at") == true)
    let gone = try place.host("copy", place.url("disk"), "/dev/null", "--json")
    #expect(gone.waitForEnd() == 0, "\(gone.errors)")
    #expect(gone.output.first?.contains("\"byteCount\": 8388608") == true)
    let write = try place.host(
      "write", place.url("disk"), "--block", "10", "--input", place.file("out"))
    #expect(write.waitForEnd() == 64, "more than there is room for")
    let read = try place.host(
      "read", place.url("disk"), "--block", "2", "--count", "3", "--output", place.file("part"))
    #expect(read.waitForEnd() == 0, "\(read.errors)")
    #expect(
      try Data(contentsOf: URL(filePath: place.file("part"))) == image[1024..<1024 + 3 * 512])
    _ = unit
  }

  @Test("Volumes are found and described; the machine is looked at")
  func discovery() throws {
    let place = try Place()
    let unit = try place.serve("a=memory,size=1MiB", "b=memory,size=2MiB,readonly,block=512")
    let discover = try place.host("discover", "fabric+shm://\(place.path)/u.sock")
    #expect(
      discover.output.dropFirst().map { String($0) } == [
        "\(place.url("a"))  1MiB in blocks of 4096",
        "\(place.url("b"))  2MiB in blocks of 512, read-only",
      ])
    let info = try place.host("info", place.url("b"), "--json")
    let object = try JSONSerialization.jsonObject(with: Data(info.output.joined().utf8))
    let fields = try #require(object as? [String: Any])
    #expect(fields["blockCount"] as? Int == 4096)
    let doctor = try place.host("doctor")
    #expect(doctor.waitForEnd() == 0)
    let names = [
      "memory files", "memory barriers", "tcp", "io_uring", "memory", "memory lock limit",
      "huge pages", "cores", "open files", "--as ublk", "--as loop", "--as nbd", "--as vhost-user",
      "rdma",
    ]
    // Of RDMA there is a line for each thing to be mended.
    #expect(doctor.output.count >= names.count && doctor.errors.isEmpty)
    for (line, name) in zip(doctor.output, names) {
      #expect(line.hasPrefix("fine  \(name) ") || line.hasPrefix("note  \(name) "), "\(line)")
    }
    // What is missing is told with what to do.
    for (path, end, remedy) in [
      ("/dev/ublk-control", "ublk", "modprobe ublk_drv"), ("/dev/fuse", "loop", "modprobe fuse"),
    ] where !FileManager.default.fileExists(atPath: path) {
      #expect(
        doctor.output.contains { $0.hasPrefix("note  --as \(end)") && $0.contains(remedy) },
        "\(doctor.output)")
    }
    #expect(doctor.output.contains { $0.hasPrefix("fine  --as vhost-user") })
    _ = unit
  }
}
