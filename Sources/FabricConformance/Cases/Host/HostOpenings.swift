import FabricPlatform

/// How hosts open, and what they make of the answer.
extension ConformanceCase {
  static let hostOpenings: [ConformanceCase] =
    [
      ConformanceCase(
        ofHost: "host-opening",
        ["MS-1", "MS-2", "MS-3", "IO-1", "IO-2", "IO-3", "IO-5", "IO-10", "IO-12"],
        "A host opens with one sound `open` and a sound greeting."
      ) { bench in
        let unit = try bench.unit()
        try unit.waitForOpening()
        let greeting = unit.greeting!
        try expect(
          greeting.mark == HostGreeting.mark, "IO-2: expected CFIO, got \(greeting.mark)")
        try expect(greeting.version == 1, "IO-3: expected version 1, got \(greeting.version)")
        try expect(greeting.access <= 1, "IO-10: expected access 0 or 1, got \(greeting.access)")
        try expect(greeting.depth > 0, "IO-10: expected a depth of 1 or more, got 0")
        let bytes = unit.peer!.greeting.count
        let names = (greeting.volume.utf8.count, greeting.host.utf8.count)
        try expect(
          bytes <= 128 && bytes == 32 + names.0 + names.1,
          "IO-10: expected 32 bytes and the names, at most 128, got \(bytes)")
        try expect(
          names.0 <= 64 && (1...64).contains(names.1) && names.0 + names.1 <= 96,
          "IO-12: expected names of at most 64 bytes and 96 together, got \(names)")
        try unit.sendOpened()
        if !greeting.volume.isEmpty { try unit.sendReady() }
        try unit.idle(.milliseconds(100))
      },
      ConformanceCase(
        ofHost: "host-patience", ["MS-4"], "A host gives an opening up that is not answered in 5 s."
      ) { bench in
        let unit = try bench.unit()
        try unit.waitForOpening()
        try unit.expectEnd(.seconds(8), after: "8 s without an answer to its opening")
      },
      ConformanceCase(
        ofHost: "host-refused", ["MS-3", "IO-16"], "A host that is refused hangs up, and fails."
      ) { bench in
        let unit = try bench.unit()
        try unit.waitForOpening()
        try unit.send(
          MessageRecord(MessageRecord.Kind.refused, body: Array("not today".utf8)))
        try unit.expectEnd(after: "`refused`")
        try bench.expectFailure()
      },
      answer("host-answer-version", ["MS-3", "MS-4"], "`opened` of version 2") {
        $0.lowestVersion = 2
        $0.highestVersion = 2
      },
      answer("host-answer-receives", ["MS-3", "MS-4"], "`opened` with 7 receives") {
        $0.receiveCount = 7
      },
      answer("host-answer-long-buffers", ["MS-3", "MS-4"], "`opened` with buffers of 17 MiB") {
        $0.bufferByteCount = 17 << 20
      },
      answer("host-answer-greeting", ["MS-3", "MS-4"], "`opened` with less greeting than it says") {
        $0.greetingByteCount = UInt16($0.greeting.count + 1)
      },
      greeting("host-greeting-mark", ["IO-2", "IO-4"], "another mark") {
        $0.mark = Array("XFIO".utf8)
      },
      greeting("host-greeting-version", ["IO-3"], "version 9") { $0.version = 9 },
      greeting("host-greeting-access", ["IO-4"], "access 7") { $0.access = 7 },
      greeting("host-greeting-path", ["IO-4", "IO-60"], "path state 3") { $0.pathState = 3 },
      greeting("host-greeting-reserved", ["IO-5"], "a reserved byte that is not 0") {
        $0.reserved = 1
      },
    ]

  /// An `opened` that a host has to turn down.
  private static func answer(
    _ id: String, _ clauses: [String], _ what: String,
    _ change: @escaping @Sendable (inout OpeningRecord) -> Void
  ) -> ConformanceCase {
    ConformanceCase(ofHost: id, clauses, "A host hangs up at \(what), and sends no command.") {
      bench in
      var plan = UnitEnd.Plan()
      plan.opening = change
      try bench.expectTurnedDown(plan, what)
    }
  }

  /// A greeting that a host has to turn down.
  private static func greeting(
    _ id: String, _ clauses: [String], _ what: String,
    _ change: @escaping @Sendable (inout UnitGreeting) -> Void
  ) -> ConformanceCase {
    ConformanceCase(
      ofHost: id, clauses,
      "A host hangs up at a unit's greeting with \(what), and sends no command."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.greeting = change
      try bench.expectTurnedDown(plan, "a greeting with \(what)")
    }
  }
}

extension HostBench {
  func expectTurnedDown(_ plan: UnitEnd.Plan, _ what: String) throws {
    let unit = try unit(plan)
    try unit.waitForOpening()
    try unit.sendOpened()
    do { try unit.sendReady() } catch {
      // It may have hung up before.
      if !unit.isOver { throw error }
    }
    try unit.expectEnd(after: what)
    try expect(unit.commandCount == 0, "expected no command after \(what), got one")
  }
}
