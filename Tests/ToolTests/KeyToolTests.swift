import Foundation
import TestSupport
import Testing

@Suite("Tools, keys and rights", .untilStuck)
struct KeyToolTests {
  /// Has `iounit key` make keys, and puts them into a file that is nobody else's.
  private func keyFile(
    _ place: Place, _ name: String, _ hosts: String..., mode: Int = 0o600
  ) throws -> String {
    let path = place.file(name)
    for host in hosts {
      let tool = try Tool(shell: "umask 077; $bin/iounit key \(host) >>\(path)")
      #expect(tool.waitForEnd() == 0, "\(tool.errors)")
    }
    try FileManager.default.setAttributes([.posixPermissions: mode], ofItemAtPath: path)
    return path
  }

  private func fails(
    _ code: Int32, _ words: String, _ tool: Tool, location: SourceLocation = #_sourceLocation
  ) {
    BadInputTests().expect(tool, code, words, location)
  }

  private func host(_ arguments: String...) throws -> Tool { try Tool("iohost", arguments) }
  private func unit(_ arguments: String...) throws -> Tool {
    try Tool("iounit", ["serve", "--volume", "m=memory,size=1MiB"] + arguments)
  }

  @Test("A host with the unit's key gets in, by option or environment; others end at once")
  func keys() throws {
    let place = try Place()
    let keys = try keyFile(place, "keys", "nqn.a", "nqn.b")
    let one = place.file("one")
    let text = try String(contentsOfFile: keys, encoding: .utf8).split(separator: "\n")
    try Data((text[0] + "\n").utf8).write(to: URL(filePath: one))
    try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: one)
    let other = try keyFile(place, "other", "nqn.a")
    let unit = try place.serve("m=memory,size=4MiB", options: ["--keys", keys])
    let url = place.url("m")
    let good = try place.host("verify", url, "--key-file", one)
    #expect(good.waitForEnd() == 0, "\(good.errors)")
    #expect(unit.waits(for: "nqn.a at m (process", "attached"))
    let chosen = try place.host("info", url, "--key-file", keys, "--host-name", "nqn.b")
    #expect(chosen.waitForEnd() == 0, "\(chosen.errors)")
    let variable = try Tool(
      shell: "CHANNELFABRIC_KEY_FILE=\(one) $bin/iohost discover shm:\(place.path)/u.sock")
    #expect(variable.waitForEnd() == 0, "\(variable.errors)")
    // Nothing of this is tried again.
    for timeout in [[], ["--timeout", "30"]] {
      fails(77, "expected a proven key, got none", try Tool("iohost", ["info", url] + timeout))
      fails(
        77, "which it did not: compare the keys",
        try Tool("iohost", ["info", url, "--key-file", other] + timeout))
    }
    fails(77, "expected a proven key, got none", try host("discover", "shm:\(place.path)/u.sock"))
    #expect(unit.waits(for: "refused process", "of user", "expected a proven key"))
    #expect(
      unit.waits(for: "refused process", "calls itself \"nqn.a\"", "compare the keys"),
      "\(unit.errors)")
    // The unit serves on, and says nothing of its secrets.
    #expect(try place.host("info", url, "--key-file", one).waitForEnd() == 0)
    for secret in text.compactMap({ $0.split(separator: " ").last }) {
      #expect(!(unit.errors + unit.output).contains { $0.contains(secret) })
    }
  }

  @Test("A unit without keys does not do for a host that wants one proven")
  func keylessUnit() throws {
    let place = try Place()
    let unit = try place.serve("m=memory,size=1MiB")
    let keys = try keyFile(place, "keys", "nqn.a")
    fails(77, "wants to prove one", try host("info", place.url("m"), "--key-file", keys))
    #expect(unit.waits(for: "refused process", "wants to prove one"))
  }

  @Test("Key files that cannot be used are refused before anything else")
  func badFiles() throws {
    let place = try Place()
    let open = try keyFile(place, "open", "nqn.a", mode: 0o644)
    let two = try keyFile(place, "two", "nqn.a", "nqn.b")
    let listen = "shm:\(place.path)/u.sock"
    fails(66, "run chmod 600", try unit("--listen", listen, "--keys", open))
    fails(66, "No such file", try unit("--listen", listen, "--keys", place.file("none")))
    fails(66, "run chmod 600", try host("info", place.url("m"), "--key-file", open))
    fails(64, "which are nqn.a, nqn.b", try host("info", place.url("m"), "--key-file", two))
    fails(
      66, "found those of nqn.a, nqn.b",
      try host("info", place.url("m"), "--key-file", two, "--host-name", "nqn.c"))
    fails(64, "in front, got \"a b\"", try Tool("iounit", ["key", "a b"]))
    fails(64, "in front, got \"\"", try Tool("iounit", ["key", ""]))
    #expect(!FileManager.default.fileExists(atPath: place.file("u.sock")))
  }

  @Test("SIGHUP has a unit read its keys again; where the file is bad the old keys stay")
  func readAgain() throws {
    let place = try Place()
    let keys = try keyFile(place, "keys", "nqn.a")
    let both = try keyFile(place, "both", "nqn.a", "nqn.b")
    let lines = try String(contentsOfFile: both, encoding: .utf8).split(separator: "\n")
    // In place: the file stays the owner's alone.
    func write(_ text: String) throws {
      let handle = try #require(FileHandle(forWritingAtPath: keys))
      try handle.truncate(atOffset: 0)
      try handle.write(contentsOf: Data(text.utf8))
      try handle.close()
    }
    try write("\(lines[0])\n")
    let unit = try place.serve(
      "m=memory,size=1MiB", options: ["--keys", keys, "--allow", "nqn.a=m", "--allow", "*=m:ro"])
    func info(_ host: String) throws -> Tool {
      try place.host("info", place.url("m"), "--key-file", both, "--host-name", host)
    }
    #expect(try info("nqn.a").waitForEnd() == 0)
    fails(77, "compare the keys", try info("nqn.b"))
    let open = try Tool(
      "iohost",
      [
        "bench", place.url("m"), "--seconds", "60", "--key-file", both, "--host-name", "nqn.a",
      ])
    #expect(unit.waits(for: "nqn.a at m", "attached"))

    try write("\(lines[0])\n\(lines[1])\n")
    unit.signal(SIGHUP)
    #expect(unit.waits(for: "keys read again: 2 hosts with a key"), "\(unit.errors)")
    #expect(try info("nqn.b").waitForEnd() == 0)

    try write("\(lines[1])\nnqn.c secret\n")
    unit.signal(SIGHUP)
    #expect(
      unit.waits(for: "error: key file", "on line 2", "the keys read before stay in use"),
      "\(unit.errors)")
    for host in ["nqn.a", "nqn.b"] { #expect(try info(host).waitForEnd() == 0) }

    try write("\(lines[1])\n")
    unit.signal(SIGHUP)
    #expect(unit.waits(for: "keys read again: 1 host with a key"), "\(unit.errors)")
    #expect(unit.waits(for: "warning: --allow names \"nqn.a\", which has no key any more"))
    fails(77, "compare the keys", try info("nqn.a"))
    #expect(try info("nqn.b").waitForEnd() == 0)
    // Whoever was connected is so still.
    open.signal(SIGINT)
    #expect(open.waitForEnd() == 130 && !open.errors.contains { $0.hasPrefix("lost ") })
    unit.signal(SIGTERM)
    #expect(unit.waitForEnd() == 0 && unit.errors.contains("stopping"))
  }

  @Test("Rules that name nobody, nothing, or no keys are refused")
  func badRules() throws {
    let place = try Place()
    let keys = try keyFile(place, "keys", "nqn.a")
    let listen = "shm:\(place.path)/u.sock"
    fails(64, "--keys FILE beside --allow", try unit("--listen", listen, "--allow", "nqn.a=m"))
    for rule in ["nqn.a", "nqn.a=", "=m", "nqn.a=:ro"] {
      fails(
        64, "expected --allow HOST=VOLUME[:ro|:rw]",
        try unit("--listen", listen, "--keys", keys, "--allow", rule))
    }
    fails(
      64, "expected a host with a key (nqn.a), got \"nqn.b\"",
      try unit("--listen", listen, "--keys", keys, "--allow", "nqn.b=m"))
    fails(
      64, "one of the volumes m, got \"n\"",
      try unit("--listen", listen, "--keys", keys, "--allow", "nqn.a=n:ro"))
    fails(
      64, "expected each --listen once", try unit("--listen", listen, "--listen", listen))
  }

  @Test("A host sees what it may use, and writes where it may")
  func rights() throws {
    let place = try Place()
    let keys = try keyFile(place, "keys", "nqn.a", "nqn.b", "nqn.c")
    let unit = try place.serve(
      "m=memory,size=1MiB", "n=memory,size=1MiB",
      options: [
        "--keys", keys, "--allow", "nqn.a=m", "--allow", "nqn.b=*:ro", "--allow", "nqn.b=n:rw",
      ])
    func run(_ host: String, _ arguments: String...) throws -> Tool {
      let tool = try Tool("iohost", arguments + ["--key-file", keys, "--host-name", host])
      tool.waitForEnd()
      return tool
    }
    func seen(_ host: String) throws -> [Substring] {
      try run(host, "discover", "shm:\(place.path)/u.sock").output.dropFirst().compactMap {
        $0.split(separator: "/").last
      }
    }
    #expect(try seen("nqn.a") == ["m  1MiB in blocks of 4096"])
    #expect(
      try seen("nqn.b") == ["m  1MiB in blocks of 4096, read-only", "n  1MiB in blocks of 4096"])
    #expect(try seen("nqn.c") == ["no volumes"])
    #expect(try run("nqn.a", "verify", place.url("m")).waitForEnd() == 0)
    #expect(try run("nqn.b", "verify", place.url("n")).waitForEnd() == 0)
    #expect(try run("nqn.b", "verify", place.url("m"), "--read-only").waitForEnd() == 0)
    fails(77, "is read-only", try run("nqn.b", "verify", place.url("m")))
    fails(77, "is read-only", try run("nqn.b", "write", place.url("m"), "--input", "/dev/zero"))
    #expect(
      try run("nqn.b", "info", place.url("m")).output.contains("access     read-only"))
    fails(69, "one of the volumes m, got \"n\"", try run("nqn.a", "info", place.url("n")))
    fails(69, "no volume is", try run("nqn.c", "info", place.url("m")))
    _ = unit
  }
}
