import FabricPlatform

/// How hosts go on after a connection was lost, and how they use paths.
extension ConformanceCase {
  static let hostPaths: [ConformanceCase] = [
    ConformanceCase(
      ofHost: "host-comes-again", ["IO-14", "IO-21", "IO-37"],
      "A host that lost its connection comes again, and waits for `ready` before it sends anything again."
    ) { bench in
      let lost = try bench.unit()
      try lost.open()
      try lost.waitForCommand()
      let old = lost.greeting!
      lost.line.disconnect()
      guard let unit = try bench.unitOrNone(UnitEnd.Plan(), within: .seconds(8)) else {
        throw NotApplicable("the host does not connect again")
      }
      try unit.waitForOpening()
      let new = unit.greeting!
      guard new.session == old.session else {
        throw NotApplicable("the host came with a new session, and sends nothing again")
      }
      // One of the same epoch fences with a message, another by being there.
      try expect(
        new.epoch > old.epoch || new.epoch == old.epoch && new.number != old.number,
        "IO-14: expected a greater epoch than \(old.epoch), or another number than \(old.number), got epoch \(new.epoch), number \(new.number)"
      )
      try unit.sendOpened()
      try unit.idle(.milliseconds(500))
      try unit.sendReady()
      try unit.wait("a fence, or a command", .seconds(6)) {
        !unit.fences.isEmpty || !unit.commands.isEmpty || unit.isOver
      }
      try unit.checkStay()
    },
    ConformanceCase(
      ofHost: "host-fences", ["IO-14", "IO-37", "IO-50", "IO-52"],
      "A host that lost one of two connections has it fenced over the other before it sends its writes again."
    ) { bench in
      let units = try bench.twoUnits()
      let (lost, unit) = try bench.pairWithWrites(units)
      let writes = lost.commands.map(\.command).filter { $0.opcode == BlockOpcode.write }
      let old = lost.greeting!
      lost.line.disconnect()
      func again() -> [CommandRecord] {
        unit.commands.map(\.command).filter { one in
          writes.contains { $0.opcode == one.opcode && $0.firstBlock == one.firstBlock }
        }
      }
      try unit.wait("a fence") { !unit.fences.isEmpty || !again().isEmpty || unit.isOver }
      try expect(again().isEmpty, "IO-37: expected a fence first, got again \(again())")
      guard let fence = unit.takeFence() else {
        throw Finding("IO-50: expected a fence, got \(unit.line.end ?? "none")")
      }
      try expect(
        fence.body.number(UInt32.self, at: 0) == old.epoch && fence.body[4] == old.number,
        "IO-50: expected a fence of epoch \(old.epoch), number \(old.number), got \(fence.body)")
      try unit.idle(.milliseconds(500))
      try expect(
        again().isEmpty,
        "IO-37: expected nothing again before the fence is answered, got \(again())")
      try unit.answer(fence: fence)
      try unit.wait("the lost writes again") {
        again().count >= writes.count || unit.isOver || unit.takeFence() != nil
      }
      try expect(!unit.isOver, "expected that the host goes on, got \(unit.line.end ?? "")")
    },
    ConformanceCase(
      ofHost: "host-inaccessible", ["IO-60"],
      "A host sends no command by a path that is inaccessible."
    ) { bench in
      var plan = UnitEnd.Plan()
      plan.pathState = 2
      let unit = try bench.unit(plan)
      try unit.open()
      try unit.idle(.milliseconds(500))
      try expect(unit.commandCount == 0, "expected no command, got \(unit.commandCount)")
      if unit.isOver { throw NotApplicable("the host does without a path that is inaccessible") }
      try unit.send(kind: BlockKind.pathState, [0, 0, 0, 0])
      try unit.waitForCommand()
    },
    ConformanceCase(
      ofHost: "host-control-again", ["IO-70", "IO-75"],
      "A control call that a lost connection took with it is sent again."
    ) { bench in
      let unit = try bench.unit()
      try unit.open()
      try unit.serve(.seconds(2)) { !unit.controlCalls.isEmpty }
      guard let call = unit.takeCall() else {
        throw NotApplicable("the host makes no control call: run it with a command that does")
      }
      unit.line.disconnect()
      let next = try bench.unit(within: .seconds(8))
      try next.open()
      try next.serve(.seconds(6)) { !next.controlCalls.isEmpty }
      guard let again = next.takeCall() else {
        throw Finding("expected the control call again, got \(next.line.end ?? "none in 6 s")")
      }
      let code = call.body.number(UInt32.self, at: 0)
      try expect(
        again.body.number(UInt32.self, at: 0) == code, "expected call \(code) again, got \(again)")
    },
  ]
}

extension HostBench {
  /// Two connections of one host.
  func twoUnits() throws -> [UnitEnd] {
    let first = try unit()
    // Some hosts come by one path after the other.
    try first.open()
    // One that was not accepted in time comes again.
    for _ in 0..<4 where addressCount > 1 {
      guard let second = try unitOrNone(UnitEnd.Plan(), within: patience) else { break }
      _ = try second.line.wait(.seconds(6)) {
        try second.takeArrivals()
        return second.greeting != nil || second.isOver
      }
      guard !second.isOver else { continue }
      try second.open()
      return [first, second]
    }
    throw NotApplicable(
      "the host has one path: run it with --also, and a command that uses {} and {2}")
  }

  /// The two, the one ahead with writes under way.
  func pairWithWrites(_ units: [UnitEnd]) throws -> (UnitEnd, UnitEnd) {
    let deadline = MonotonicTime.now + .seconds(6)
    while .now < deadline {
      for (index, unit) in units.enumerated() {
        try unit.idle(.milliseconds(50))
        if unit.commands.contains(where: { $0.command.opcode == BlockOpcode.write }) {
          return (unit, units[1 - index])
        }
      }
    }
    throw NotApplicable("the host writes nothing in 6 s: run it with a command that does")
  }
}
