import Foundation
import FoundationXML
import TestSupport
import Testing

/// fabconform judges our own two halves, as it would judge anybody's.
@Suite("fabconform", .untilStuck)
struct ConformanceToolTests {
  @Test(
    "Our unit passes every case, with and without keys", arguments: ["shm", "tcp"], [false, true])
  func unit(fabric: String, hasKey: Bool) throws {
    let place = try Place()
    var options = ["--volume", "ro=memory,size=1MiB,readonly"]
    var extra: [String] = []
    if hasKey {
      let keys = place.file("keys")
      let made = try Tool(shell: "umask 077; $bin/iounit key nqn.judge >\(keys)")
      #expect(made.waitForEnd() == 0)
      options += ["--keys", keys]
      extra = ["--key-file", keys]
    }
    if fabric == "tcp" { options += ["--listen", "tcp:127.0.0.1:0"] }
    let unit = try place.serve("scratch=\(place.file("scratch")),size=16MiB", options: options)
    var url = place.url("scratch")
    if fabric == "tcp" {
      #expect(unit.waits(for: "ready", "tcp:127.0.0.1:"))
      let ready = try #require((unit.output + unit.errors).first { $0.contains("tcp:127.0.0.1:") })
      let port = try #require(ready.firstMatch(of: /tcp:127\.0\.0\.1:([0-9]+)/)).output.1
      url = "fabric+tcp://127.0.0.1:\(port)/scratch"
    }
    let found = try ConformanceReport(
      of:
        Tool(
          "fabconform",
          ["run", url, "--overwrite", "--json", "--junit", place.file("j.xml")] + extra)
    )
    let hidden: Set =
      hasKey
      ? [
        "opening-short", "opening-greeting-too-long", "key-not-asked", "greeting-host-length",
        "greeting-host-empty",
      ] : ["key-proven", "key-missing", "key-wrong-proof", "key-unknown-name", "key-fresh-nonces"]
    found.expectJudged(but: hidden.union(["buffer-twice"]))
    let junit = try String(contentsOfFile: place.file("j.xml"), encoding: .utf8)
    #expect(junit.contains("tests=\"\(found.cases.count)\"") && junit.contains("failures=\"0\""))
  }

  @Test("Where it may not write, our unit passes all that writes nothing, and the rest says why")
  func unitWithoutOverwrite() throws {
    let place = try Place()
    let unit = try place.serve(
      "scratch=memory,size=16MiB", options: ["--volume", "ro=memory,size=1MiB,readonly"])
    defer { unit.signal(SIGTERM) }
    let found = try ConformanceReport(
      of: Tool("fabconform", ["run", place.url("scratch"), "--json"]))
    let others = found.cases.filter { $0.verdict == "notApplicable" }
    #expect(others.count { $0.words.contains("--overwrite") } > 5)
    #expect(
      others.allSatisfy {
        $0.words.contains("--overwrite") || $0.words.contains("key") || $0.id == "buffer-twice"
      }, "\(others)")
    let judged = found.cases.filter { $0.verdict == "passed" }.map(\.id)
    for id in ["zeroes-with-bytes", "control-block-size", "read-only-volume"] {
      #expect(judged.contains(id))
    }
  }

  @Test("A run in which no case applies is not one that has passed")
  func nothingJudged() throws {
    let place = try Place()
    let unit = try place.serve("scratch=memory,size=1MiB")
    defer { unit.signal(SIGTERM) }
    let judge = try Tool("fabconform", ["run", place.url("scratch"), "--case", "write-read"])
    #expect(judge.waitForEnd() == 1)
    #expect(judge.output.last == "0 passed, 0 failed, 1 not applicable")
    #expect(judge.errors.contains { $0.contains("expected a case that applies") })
  }

  @Test("The JUnit file of a run that did not end has an error, and what was judged")
  func unendedReport() throws {
    let place = try Place()
    let file = place.file("j.xml")
    func testCount() throws -> Int {
      let suite = try XMLDocument(contentsOf: URL(filePath: file)).nodes(
        forXPath: "/testsuites/testsuite[@errors='1']")
      return try #require(suite.first).nodes(forXPath: "testcase").count
    }
    // Of an earlier run.
    try "<testsuites/>".write(toFile: file, atomically: true, encoding: .utf8)
    let nowhere = try Tool("fabconform", ["run", place.url("scratch"), "--junit", file])
    #expect(nowhere.waitForEnd() == 69)
    #expect(try testCount() == 1)
    // The host of the second case kills the judge.
    let judge = try Tool(
      shell: """
        exec $bin/fabconform serve shm:\(place.file("judge.sock")) --case host-opening \
        --case host-works --junit \(file) -- \
        sh -c 'test -e \(place.file("was")) && kill -KILL $PPID; touch \(place.file("was"))' {}
        """)
    #expect(judge.waitForEnd() == -SIGKILL)
    #expect(try testCount() == 2)
    let nowhereToWrite = try Tool(
      "fabconform", ["run", place.url("scratch"), "--junit", place.file("none/j.xml")])
    BadInputTests().expect(nowhereToWrite, 66, "No such file or directory", #_sourceLocation)
  }

  /// What a host that writes and reads over one path, with or without a key, does not show. `FabricConformanceTests` has
  /// hosts that do.
  private static let otherHosts: Set = ["host-control-again", "host-fences", "host-discovers"]

  @Test("Our host passes every case, with and without keys", arguments: ["shm", "tcp"])
  func host(fabric: String) throws {
    let place = try Place()
    let hasKey = fabric == "tcp"
    let keys = place.file("keys")
    let made = try Tool(shell: "umask 077; $bin/iounit key nqn.judged >\(keys)")
    #expect(made.waitForEnd() == 0)
    let key = hasKey ? "--key-file \(keys)" : ""
    let address =
      try fabric == "shm" ? "shm:\(place.file("judge.sock"))" : "tcp:\(FreePort.endpoint())"
    let found = try ConformanceReport(
      of:
        Tool(
          shell: """
            exec $bin/fabconform serve \(address) \(key) --json -- \
            $bin/iohost verify {} --overwrite --timeout 5 \(key)
            """))
    let keyCases: Set = [
      "host-key-proven", "host-key-fresh-nonces", "host-key-wrong-challenge",
      "host-key-wrong-opened", "host-key-skipped", "host-key-refused",
    ]
    found.expectJudged(but: Self.otherHosts.union(hasKey ? [] : keyCases))
  }

  @Test("Our host that lists volumes passes what is asked of one")
  func listingHost() throws {
    let place = try Place()
    let judge = try Tool(
      shell: """
        exec $bin/fabconform serve shm:\(place.file("judge.sock")) --case host-discovers -- \
        $bin/iohost discover {unit}
        """)
    #expect(judge.waitForEnd() == 0, "\(judge.output) \(judge.errors)")
    #expect(judge.output.last == "1 passed, 0 failed, 0 not applicable")
  }

  @Test("A peer that breaks a clause fails its case, with what was expected, seen and sent")
  func findings() throws {
    // A host that calls it a success that it was refused.
    let place = try Place()
    let judge = try Tool(
      shell: """
        exec $bin/fabconform serve shm:\(place.file("judge.sock")) --case host-refused \
        --junit \(place.file("j.xml")) -- sh -c "$bin/iohost info {}; true"
        """)
    #expect(judge.waitForEnd() == 1)
    let text = judge.output.joined(separator: "\n")
    #expect(text.contains("FAILED  host-refused: expected that the program fails, got status 0"))
    #expect(text.contains("MS-3 (must): The initiator sends `open`, once"))
    #expect(text.contains("sends refused") && text.contains("43 46 49 4f"))
    #expect(text.hasSuffix("0 passed, 1 failed, 0 not applicable"))
    #expect(try String(contentsOfFile: place.file("j.xml"), encoding: .utf8).contains("<failure"))
  }

  @Test("A unit that dies in the middle is a finding, and no case waits for it")
  func death() throws {
    let place = try Place()
    let unit = try place.serve("scratch=memory,size=1MiB")
    let judge = try Tool("fabconform", ["run", place.url("scratch"), "--overwrite"])
    #expect(judge.waits(for: "passed  "), "\(judge.errors)")
    unit.signal(SIGKILL)
    #expect(judge.waitForEnd() == 1)
    #expect(judge.output.contains { $0.hasPrefix("FAILED  ") })
    #expect(judge.output.contains { $0.contains("not put: in 3 cases in a row") })
  }

  @Test("Where there is nothing to judge it says so, and what to do")
  func badInput() throws {
    let tests = BadInputTests()
    let place = try Place()
    let nowhere = place.url("scratch")
    let here = #_sourceLocation
    tests.expect(try Tool("fabconform", ["run", nowhere]), 69, "expected a unit to judge at", here)
    tests.expect(try Tool("fabconform", ["run", "nonsense"]), 64, "expected a URL", here)
    tests.expect(
      try Tool("fabconform", ["run", nowhere, "--case", "x"]), 64, "expected the name of one of",
      here)
    tests.expect(
      try Tool("fabconform", ["run", nowhere, "--clause", "X-99"]), 64,
      "expected a clause's number",
      here)
    tests.expect(
      try Tool("fabconform", ["run", nowhere, "--clause", "IO-75"]), 64,
      "expected a clause that binds this half", here)
    tests.expect(
      try Tool("fabconform", ["run", nowhere, "--key-file", place.file("none")]), 66, "key file",
      here)
    tests.expect(
      try Tool("fabconform", ["serve", "tcp:127.0.0.1:0", "--", "true"]), 64, "expected {} in", here
    )
    tests.expect(
      try Tool("fabconform", ["list", "--section", "Poetry"]), 64, "sections are", here)
    let unit = try place.serve("scratch=memory,size=1MiB")
    tests.expect(
      try Tool("fabconform", ["run", place.url("other")]), 69, "a refusal: ", here)
    unit.signal(SIGTERM)
    let idle = try Tool(
      "fabconform",
      ["serve", "shm:\(place.file("judge.sock"))", "--patience", "0.2", "--case", "host-opening"])
    #expect(idle.waitForEnd() == 1)
    #expect(idle.output.contains { $0.contains("expected a host in 0.2 seconds, got none") })
  }
}
