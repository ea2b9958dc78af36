import Foundation
import Testing

/// Each kind of wrong input gets one line and its exit code.
@Suite("Tools, bad input", .timeLimit(.minutes(5)))
struct BadInputTests {
  /// Checks that a program ended with `code` and said one thing, which holds `words`.
  func expect(_ tool: Tool, _ code: Int32, _ words: String, _ location: SourceLocation) {
    #expect(tool.waitForEnd() == code, "\(tool.errors)", sourceLocation: location)
    // Before it there may be what the unit says of its volumes, and hosts of their attempts.
    let lines = tool.errors.filter { !$0.contains(" in blocks of ") && !$0.hasPrefix("attempt ") }
    #expect(lines.count == 1, "\(tool.errors)", sourceLocation: location)
    #expect(lines.first?.hasPrefix("error: ") == true, "\(lines)", sourceLocation: location)
    #expect(lines.first?.contains(words) == true, "\(lines)", sourceLocation: location)
    #expect(tool.output.isEmpty, "\(tool.output)", sourceLocation: location)
  }

  func host(
    _ code: Int32, _ words: String, _ arguments: String...,
    location: SourceLocation = #_sourceLocation
  ) throws {
    expect(try Tool("iohost", arguments), code, words, location)
  }

  func unit(
    _ code: Int32, _ words: String, _ arguments: String...,
    location: SourceLocation = #_sourceLocation
  ) throws {
    expect(try Tool("iounit", ["serve"] + arguments), code, words, location)
  }

  @Test("Hosts: URLs, units and volumes that are not there")
  func addresses() throws {
    let place = try Place()
    try host(64, "expected a URL such as", "info", "disk")
    try host(
      64, "use fabric+shm, fabric+tcp or fabric+rdma", "info", "fabric+nvme://host:4420/disk")
    try host(64, "at most 107", "info", place.url(String(repeating: "a", count: 107) + "/disk"))
    try host(64, "must be absolute", "info", "fabric+shm://run/unit.sock/disk")
    try host(69, "\(place.path)/u.sock", "info", place.url("disk"))
    try host(75, "gave up on", "info", place.url("disk"), "--timeout", "0.3")
    try host(69, "\(place.path)/u.sock", "discover", "shm:\(place.path)/u.sock")
    try host(75, "gave up on", "discover", "shm:\(place.path)/u.sock", "--timeout", "0.3")
    try Data("not a socket".utf8).write(to: URL(filePath: place.file("u.sock")))
    try host(69, "\(place.path)/u.sock", "info", place.url("disk"))
  }

  @Test("Options: one line that says what was expected and where to read more")
  func options() throws {
    try host(64, "got 5000; see iohost bench --help", "bench", "URL", "--depth", "5000")
    try host(64, "'zigzag' is invalid", "bench", "URL", "--pattern", "zigzag")
    try host(64, "Missing expected argument '<url>'", "info")
    try host(64, "Unexpected argument 'dance'; see iohost --help", "dance")
    try host(64, "got 0; see iohost read --help", "read", "URL", "--count", "0")
    try host(64, "got 0; see iohost verify --help", "verify", "URL", "--passes", "0")
    try host(64, "got -1", "info", "URL", "--timeout=-1")
    try host(64, "got -3", "info", "URL", "--timeout", "-3")
    try host(64, "got -1", "bench", "URL", "--seconds", "-1")
    try host(64, "got -1", "bench", "URL", "--depth", "-1")
    try host(64, "'-1' is invalid for '--count <count>'", "read", "URL", "--count", "-1")
    try host(64, "at most 1GiB, got 2GiB", "bench", "URL", "--block-size", "2GiB")
    try host(64, "--block-size: expected", "bench", "URL", "--block-size", "4KuB")
    try host(64, "which is nothing", "bench", "URL", "--block-size", "0")
    try host(64, "without --passes", "verify", "URL", "--read-only", "--passes", "1")
    try host(64, "without --overwrite", "verify", "URL", "--read-only", "--overwrite")
    try unit(64, "got -1", "--listen", "shm:/u", "--volume", "m=memory,size=1MiB", "--depth", "-1")
    try host(64, "got 70", "info", "URL", "--host-name", String(repeating: "h", count: 70))
    try unit(64, "expected --listen shm:PATH|tcp:HOST:PORT|rdma:HOST:PORT, --nbd")
    expect(
      try Tool("fabperf", ["rate", "--size", "0"]), 64, "got 0; see fabperf rate", #_sourceLocation)
  }

  @Test("Names of others do not reach the terminal as they please")
  func controlCharacters() throws {
    let place = try Place()
    let unit = try place.serve("w=memory,size=1MiB")
    let name = "\u{1b}[2J\nerror: \u{202e}x"
    #expect(try place.host("info", place.url("w"), "--host-name", name).waitForEnd() == 0)
    #expect(unit.waits(for: "?[2J?error: ?x at w", "attached"), "\(unit.errors)")
  }

  @Test("All programs are of one release")
  func versions() throws {
    let versions = try ["iohost", "iounit", "fabperf"].map { name in
      let tool = try Tool(name, ["--version"])
      #expect(tool.waitForEnd() == 0 && tool.errors.isEmpty)
      let words = tool.output.first?.split(separator: " ") ?? []
      #expect(words.count == 2 && words[0] == name, "\(tool.output)")
      return words.last
    }
    #expect(Set(versions).count == 1)
  }

  @Test("Hosts: what the volume cannot do")
  func requests() throws {
    let place = try Place()
    let unit = try place.serve(
      "r=memory,size=1MiB,readonly", "w=memory,size=1MiB",
      "full=memory,size=1MiB,fault=error=write:capacityExceeded:nth=3",
      "bad=memory,size=1MiB,fault=error=read:mediaReadError:blocks=8-8")
    try host(69, "one of the volumes bad, full, r, w, got", "info", place.url("nothing"))
    let unitURL = "fabric+shm://\(place.path)/u.sock"
    try host(64, "one of its volumes: bad, full, r, w", "info", unitURL)
    try host(64, "one of its volumes: bad, full, r, w", "bench", unitURL)
    try host(64, "use \(unitURL)", "discover", place.url("w"))
    try host(69, "no directory: check the path", "info", place.url("w/w"))
    for command in [
      ["verify"], ["write", "--input", "/dev/zero"], ["bench", "--pattern", "randwrite"],
      ["verify", "--timeout", "20"],
    ] {
      expect(
        try Tool("iohost", command + [place.url("r")]), 77, "is read-only: have it served without",
        #_sourceLocation)
    }
    // The unit's own word is not waited for again.
    try host(
      69, "one of the volumes bad, full, r, w, got", "info", place.url("no"), "--timeout", "20")
    try host(74, "the disk under the volume is full", "verify", place.url("full"))
    try host(74, "read of 1 block from", "read", place.url("bad"), "--block", "8")
    try host(74, "the medium cannot give back", "read", place.url("bad"), "--count", "16")
    try host(64, "expected blocks inside", "read", place.url("w"), "--block", "250", "--count", "9")
    try host(
      64, "expected --block-size of whole blocks", "bench", place.url("w"), "--block-size", "1000")
    #expect(
      try place.host("bench", place.url("w"), "--block-size", "8KiB", "--seconds", "0.1").output
        .first?.contains("8192 bytes") == true)
    expect(
      try Tool(shell: "head -c 3M /dev/zero | $bin/iohost write --block 1 \(place.url("w"))"), 64,
      "expected at most 1044480 bytes, which is what lies behind block 1, the input goes on: ",
      #_sourceLocation)
    try host(64, "start the unit with --depth 1024", "bench", place.url("w"), "--depth", "1024")
    try host(66, "none", "copy", place.file("none"), place.url("w"))
    try host(64, "two paths", "copy", place.file("none"), place.file("none2"))
    try Data(count: 1 << 21).write(to: URL(filePath: place.file("large")))
    try host(64, "which is the volume's size", "copy", place.file("large"), place.url("w"))
    try Data(count: 1000).write(to: URL(filePath: place.file("odd")))
    try host(64, "truncate -s 4096", "write", place.url("w"), "--input", place.file("odd"))
    try host(64, "truncate -s 4096", "copy", place.file("odd"), place.url("w"))
    try host(66, "holds nothing", "write", place.url("w"), "--input", "/dev/null")
    try host(66, "found a directory", "copy", place.path, place.url("w"))
    try host(64, "use iohost write", "copy", "/dev/zero", place.url("w"))
    try host(64, "leave --verify out", "copy", place.url("w"), "/dev/null", "--verify")
    try host(66, "No space left", "copy", place.url("w"), "/dev/full")
    try Data(repeating: 7, count: 4096).write(to: URL(filePath: place.file("data")))
    try host(
      64, "at most 255, the volume's last, got 300", "write", place.url("w"), "--block", "300",
      "--input", place.file("data"))
    // Wherever the data lie, they are found before anything is written.
    let write = try place.host(
      "write", place.url("w"), "--block", "101", "--input", place.file("data"))
    #expect(write.waitForEnd() == 0)
    try host(64, "block 101 holds data; to destroy it, add --overwrite", "verify", place.url("w"))
    let back = place.file("back")
    let read = try place.host("read", place.url("w"), "--block", "101", "--output", back)
    #expect(read.waitForEnd() == 0)
    #expect(try Data(contentsOf: URL(filePath: back)) == Data(repeating: 7, count: 4096))
    _ = unit
  }

  @Test("Units: volumes that cannot be opened, addresses that cannot be listened at")
  func serving() throws {
    let place = try Place()
    let listen = "shm:\(place.path)/u.sock"
    let none = place.file("none.img")
    for (suffix, words) in [
      ("state=good", "expected a state (optimised, non-optimised, inaccessible)"),
      ("state=optimised,state=optimised", "expected state= once"), ("delay=1", "500us, 1ms or 2s"),
      ("delay=2h", "500us, 1ms or 2s"), ("cut=0s", "500us, 1ms or 2s"),
      ("cut=1s:x", "expected a seed"),
    ] {
      try unit(64, words, "--listen", "\(listen),\(suffix)", "--volume", "m=memory,size=1MiB")
    }
    try unit(64, "there is no NAME=", "--listen", listen, "--volume", none)
    try unit(64, "append ,size=1GiB", "--listen", listen, "--volume", "m=memory")
    try unit(64, "give 4096", "--listen", listen, "--volume", "m=memory,size=1000")
    try unit(64, "give 1024", "--listen", listen, "--volume", "d=\(none),size=1000")
    let there = place.file("there.img")
    try Data(count: 8192).write(to: URL(filePath: there))
    try unit(
      64, "leave size= out", "--listen", listen, "--volume", "d=\(there),size=1MiB")
    #expect(try Data(contentsOf: URL(filePath: there)).count == 8192)
    try unit(71, "machine has available", "--listen", listen, "--volume", "m=memory,size=1PiB")
    try unit(
      71, "machine has available", "--listen", listen, "--volume", "m=memory,size=7168PiB",
      "--volume",
      "n=memory,size=1024PiB", "--volume", "o=memory,size=8191PiB")
    try unit(
      64, "at most 107 bytes, got 108", "--listen", "shm:/" + String(repeating: "a", count: 107),
      "--volume", "m=memory,size=1MiB")
    try unit(64, "expected a size", "--listen", listen, "--volume", "m=memory,size=lots")
    try unit(64, "got \"color=red\"", "--listen", listen, "--volume", "m=\(none),color=red")
    try unit(64, "at least one volume", "--listen", listen)
    try unit(
      64, "expected --listen shm:PATH|tcp:HOST:PORT|rdma:HOST:PORT", "--listen", "here", "--volume",
      "m=memory,size=1MiB")
    try unit(66, "found nothing", "--listen", listen, "--volume", "d=\(none)")
    try unit(66, "found a directory", "--listen", listen, "--volume", "d=\(place.path)")
    try unit(
      64, "\"m\" is taken", "--listen", listen, "--volume", "m=memory,size=1MiB", "--volume",
      "m=memory,size=1MiB")
    try unit(
      64, "\"d\" and \"e\" both name", "--listen", listen, "--volume", "d=\(none),size=1MiB",
      "--volume", "e=\(none),size=1MiB")
    try unit(
      64, "\"d\" and \"e\" both name", "--listen", listen, "--volume", "d=\(there)", "--volume",
      "e=\(place.path)/../\(place.path.split(separator: "/").last ?? "")/there.img")
    let memory = "m=memory,size=1MiB"
    try unit(
      64, "--depth of 1 to 1024, got 0", "--listen", listen, "--volume", memory, "--depth", "0")
    try unit(
      64, "--depth of 1 to 1024, got 5000", "--listen", listen, "--volume", memory, "--depth",
      "5000")
    try unit(
      64, "--name of 1 to 64 bytes, got 0", "--listen", listen, "--volume", memory, "--name", "")
    try Data(count: 1000).write(to: URL(filePath: place.file("odd")))
    try unit(
      66, "expected a directory to keep", "--listen", listen, "--volume",
      "d=\(place.path)/none/d.img,size=1MiB")
    try unit(66, "to be a multiple of", "--listen", listen, "--volume", "d=\(place.file("odd"))")
    try unit(
      69, "/none/u.sock", "--listen", "shm:\(place.path)/none/u.sock", "--volume",
      "m=memory,size=1MiB")
    try unit(
      69, "/none/u.sock", "--listen", "shm:\(place.path)/none/u.sock", "--volume",
      "d=\(none),size=1MiB")
    // Nobody makes files there, not even root.
    try unit(
      69, "choose another path", "--listen", "shm:/sys/u.sock", "--volume", "d=\(none),size=1MiB")
    try unit(
      66, "found a directory", "--listen", listen, "--volume", "d=\(none),size=1MiB", "--volume",
      "e=\(place.path)")
    #expect(
      Set(try FileManager.default.contentsOfDirectory(atPath: place.path)) == ["odd", "there.img"],
      "what was made for nothing is left behind")
    let first = try place.serve("d=\(place.file("d.img")),size=1MiB")
    try unit(69, "u.sock", "--listen", listen, "--volume", "m=memory,size=1MiB")
    try unit(
      66, "another process serves it", "--listen", listen + "2", "--volume",
      "d=\(place.file("d.img"))")
    // The one that was there was not disturbed.
    #expect(try place.host("info", place.url("d")).waitForEnd() == 0)
    _ = first
  }
}
