import FabricPlatform

/// What hosts do on an open channel. Much of it is judged by `UnitEnd`, whatever the case.
extension ConformanceCase {
  static let hostWork: [ConformanceCase] = [
    ConformanceCase(
      ofHost: "host-works",
      [
        "MS-5", "MS-6", "MS-7", "MS-8", "MS-9", "MS-10", "IO-20", "IO-21", "IO-22", "IO-30",
        "IO-31",
        "IO-32", "IO-34", "IO-36",
      ],
      "A host that is served honestly says nothing that breaks a clause, and does its work."
    ) { bench in
      let unit = try bench.unit()
      try unit.open()
      if bench.program == nil {
        try unit.serve(.seconds(5)) { unit.commandCount >= 100 }
      } else if let status = try bench.serveProgram(unit) {
        try expect(status == 0, "expected that the host's program succeeds, got status \(status)")
      }
      try expect(unit.commandCount > 0, "expected commands, got none")
    },
    ConformanceCase(
      ofHost: "host-waits-for-ready", ["IO-14", "IO-21"], "A host sends no command before `ready`."
    ) { bench in
      let unit = try bench.unit()
      try unit.waitForOpening()
      try unit.sendOpened()
      try unit.idle(.milliseconds(500))
      try unit.sendReady()
      try unit.waitForCommand()
    },
    ConformanceCase(
      ofHost: "host-depth", ["IO-21"],
      "A host has no more commands at once than it was allowed: one."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.depth = 1
      let unit = try bench.unit(plan)
      try unit.open()
      for _ in 0..<5 {
        try unit.waitForCommand()
        try unit.idle(.milliseconds(20))
        try unit.answerAll()
      }
    },
    ConformanceCase(
      ofHost: "host-credit", ["MS-5", "MS-13"],
      "A host sends no more messages than the unit has receives for, and goes on when it has more."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.receiveCount = 8
      plan.reposts = false
      let unit = try bench.unit(plan)
      try unit.open()
      // Commands are answered, and the receives that they took kept.
      try unit.serve(.milliseconds(700)) { unit.messageCount > 8 }
      try expect(
        unit.messageCount <= 8,
        "expected at most 8 messages for 8 receives, got \(unit.messageCount)")
      try unit.checkStay()
      try expect(!unit.isOver, "expected that the host waits, got \(unit.line.end ?? "")")
      let before = unit.commandCount
      try unit.line.repost()
      try unit.send(MessageRecord(MessageRecord.Kind.credit))
      try unit.serve(.seconds(3)) { unit.commandCount > before }
      try expect(unit.commandCount > before, "expected commands after more credit, got none")
    },
    ConformanceCase(
      ofHost: "host-credit-reported", ["MS-5"],
      "A host tells of receives that it has reposted once half of its window is untold."
    ) { bench in
      let unit = try bench.unit()
      try unit.open()
      let half = Int(unit.peer!.receiveCount) / 2
      if half > 1024 { throw NotApplicable("the host has more than 2048 receives") }
      let before = unit.peerRepostedCount
      for _ in 0...half {
        try unit.send(MessageRecord(MessageRecord.Kind.credit))
        try unit.takeArrivals()
      }
      try unit.wait("that the host tells of reposted receives", .seconds(3)) {
        unit.peerRepostedCount > before || unit.isOver
      }
      try unit.checkStay()
    },
    ConformanceCase(
      ofHost: "host-buffers", ["MS-6"], "A host fills no buffer that it has not got back."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.bufferCount = 2
      let unit = try bench.unit(plan)
      try unit.open()
      unit.returnsBuffers = false
      try unit.serve(.milliseconds(700)) { false }
      if unit.mostFilled == 0 {
        throw NotApplicable("the host writes nothing: run it with a command that does")
      }
      try expect(
        unit.mostFilled <= 2, "expected at most 2 buffers filled, got \(unit.mostFilled)")
    },
    ConformanceCase(
      ofHost: "host-beats", ["MS-11"], "A host beats as often as the unit's opening asks."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.heartbeatMilliseconds = 200
      let unit = try bench.unit(plan)
      try unit.open()
      try unit.waitForCommand()
      let before = unit.messageCount
      for _ in 0..<10 {
        try unit.idle(.milliseconds(200))
        try unit.send(MessageRecord(MessageRecord.Kind.credit))
      }
      let count = unit.messageCount - before
      try expect(!unit.isOver, "expected patience with a slow command, got \(unit.line.end ?? "")")
      try expect(count >= 5, "expected about 10 messages in 2 s at 200 ms, got \(count)")
    },
    ConformanceCase(
      ofHost: "host-notices-silence", ["MS-11"],
      "A host gives a unit up that is silent for six intervals."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.heartbeatMilliseconds = 100
      let unit = try bench.unit(plan)
      unit.beats = false
      try unit.open()
      try unit.expectEnd(.seconds(3), after: "six intervals of silence")
    },
    ConformanceCase(
      ofHost: "host-leaves", ["MS-10"], "A host hangs up when the unit closes."
    ) { bench in
      let unit = try bench.unit()
      try unit.open()
      try unit.waitForCommand()
      try unit.answerAll()
      try unit.send(MessageRecord(MessageRecord.Kind.close))
      try unit.expectEnd(.seconds(3), after: "`close`")
    },
    ConformanceCase(
      ofHost: "host-closes", ["MS-10"],
      "A host that closes waits for the unit to hang up, but not for ever."
    ) { bench in
      let unit = try bench.unit()
      unit.leavesOnClose = false
      try unit.open()
      try unit.serve(.seconds(15)) { unit.hasPeerClosed }
      if !unit.hasPeerClosed, !unit.isOver {
        throw NotApplicable("the host works for more than 15 s: run it with a command that ends")
      }
      try expect(unit.hasPeerClosed, "expected `close`, got the end: \(unit.line.end ?? "")")
      try unit.expectEnd(.seconds(3), after: "its own `close`")
    },
  ]
}

extension UnitEnd {
  /// Throws unless the host sends a command.
  func waitForCommand() throws {
    let deadline = MonotonicTime.now + .seconds(6)
    while commands.isEmpty, !isOver, .now < deadline {
      try line.wait(.milliseconds(20)) {
        try takeArrivals()
        return !commands.isEmpty || !controlCalls.isEmpty || isOver
      }
      try answerCalls()
    }
    try checkStay()
    try expect(!commands.isEmpty, "expected a command, got \(line.end ?? "nothing")")
  }

  /// A host that has done its work closes: that says nothing of what else it would do.
  func checkStay() throws {
    if hasPeerClosed, commands.isEmpty {
      throw NotApplicable("the host was done before: run it with a command that works longer")
    }
  }
}

extension HostBench {
  /// Serves every connection that the program makes, until it has ended.
  func serveProgram(_ first: UnitEnd) throws -> Int32? {
    var unit = first
    let deadline = MonotonicTime.now + .seconds(20)
    while program?.status == nil, .now < deadline {
      try unit.serve(.seconds(1)) { program?.status != nil }
      guard unit.isOver, program?.status == nil else { continue }
      guard let next = try unitOrNone(UnitEnd.Plan(), within: .seconds(2)) else { continue }
      unit = next
      try unit.open()
    }
    return try waitForProgram(.seconds(1))
  }
}
