/// How hosts go on after a connection was lost, and how they use paths.
extension ConformanceCase {
  static let hostPaths: [ConformanceCase] = [
    ConformanceCase(
      ofHost: "host-fences", ["IO-14", "IO-37", "IO-50", "IO-52"],
      "A host that lost a connection with commands under way has it fenced before it sends any again."
    ) { bench in
      let lost = try bench.unit()
      try lost.open()
      try lost.waitForCommand()
      let tags = Set(lost.commands.map(\.command.tag))
      let old = lost.greeting!
      lost.line.disconnect()
      guard let unit = try bench.unitOrNone(UnitEnd.Plan(), within: .seconds(8)) else {
        throw NotApplicable("the host does not connect again")
      }
      try unit.open()
      let new = unit.greeting!
      guard new.session == old.session else {
        throw NotApplicable("the host came with a new session, and sends nothing again")
      }
      if new.epoch > old.epoch { return }
      try unit.wait("a fence, or a command") { !unit.fences.isEmpty || !unit.commands.isEmpty }
      let again = unit.commands.map(\.command.tag).filter { tags.contains($0) }
      guard let fence = unit.takeFence() else {
        throw Finding("expected a fence before anything is sent again, got commands \(again)")
      }
      try expect(
        fence.body.number(UInt32.self, at: 0) == old.epoch && fence.body[4] == old.number,
        "IO-50: expected a fence of epoch \(old.epoch), number \(old.number), got \(fence.body)")
      let before = unit.commandCount
      try unit.idle(.milliseconds(300))
      try expect(
        unit.commandCount == before || before > 0,
        "IO-37: expected nothing sent again before the fence is answered, got commands")
      try unit.send(kind: BlockKind.fenced, tag: fence.tag, UnitEnd.fenced(fence.body))
      try unit.waitForCommand()
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
      try next.wait("the control call again") { !next.controlCalls.isEmpty }
      let again = next.takeCall()!
      let code = call.body.number(UInt32.self, at: 0)
      try expect(
        again.body.number(UInt32.self, at: 0) == code, "expected call \(code) again, got \(again)")
    },
  ]
}

extension UnitEnd {
  /// An answer to a fence: the connection is not remembered, and nothing of it under way. (IO-52)
  static func fenced(_ request: [UInt8]) -> [UInt8] {
    var bytes = Array(request[..<6])
    bytes.put(UInt16(0))
    for index in 0..<Int(request[5]) {
      bytes += request[(8 + 4 * index)..<(12 + 4 * index)]
      bytes.put(zeroes: 8)
    }
    return bytes
  }
}
