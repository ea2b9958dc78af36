import FabricPlatform

/// MS-14 to MS-17: pre-shared keys. They want a host that proves the key that the judge has.
extension ConformanceCase {
  static let hostKeys: [ConformanceCase] = [
    ConformanceCase(
      ofHost: "host-key-proven", ["MS-14", "MS-15"],
      "A host proves its key, takes the unit's proof, and works."
    ) { bench in
      try bench.needsKey()
      let unit = try bench.unit()
      try unit.open()
      try unit.waitForCommand()
    },
    ConformanceCase(
      ofHost: "host-key-fresh-nonces", ["MS-16"], "Each `hello` has a nonce of its own."
    ) { bench in
      try bench.needsKey()
      let first = try bench.unit()
      try first.open()
      try first.waitForCommand()
      first.line.disconnect()
      guard let second = try bench.unitOrNone(UnitEnd.Plan(), within: .seconds(8)) else {
        throw NotApplicable("the host does not connect again")
      }
      try second.open()
      try expect(
        first.keys!.nonce! != second.keys!.nonce!, "expected another nonce, got the same one")
    },
    ConformanceCase(
      ofHost: "host-key-wrong-challenge", ["MS-15", "MS-16", "MS-17"],
      "A host refuses a unit whose challenge proves nothing, with kind 1, and says no `open`."
    ) { bench in
      try bench.needsKey()
      var plan = UnitEnd.Plan()
      plan.keys.challenge = { $0[31] ^= 1 }
      let unit = try bench.unit(plan)
      try unit.waitForHello()
      try unit.expectEnd(after: "a challenge with a wrong proof")
      try expect(unit.greeting == nil, "expected no `open` after a wrong proof, got one")
      try expect(
        unit.refusal?.kind == 1,
        "MS-17: expected `refused` of kind 1, got \(unit.refusal.map { "\($0)" } ?? "none")")
      try bench.expectFailure()
    },
    ConformanceCase(
      ofHost: "host-key-wrong-opened", ["MS-15"],
      "A host hangs up at `opened` that proves nothing, and sends no command."
    ) { bench in
      try bench.needsKey()
      var plan = UnitEnd.Plan()
      plan.keys.opened = { $0[0] ^= 0x80 }
      try bench.expectTurnedDown(plan, "`opened` with a wrong proof")
    },
    ConformanceCase(
      ofHost: "host-key-skipped", ["MS-17"],
      "A host that wants a proof takes no `opened` in place of a challenge."
    ) { bench in
      try bench.needsKey()
      var plan = UnitEnd.Plan()
      plan.keys.answersHello = false
      let unit = try bench.unit(plan)
      try unit.waitForHello()
      try unit.sendOpened()
      try unit.expectEnd(after: "`opened` in place of a challenge")
      try expect(
        unit.greeting == nil && unit.commandCount == 0,
        "expected that the host does not go on without a proof, got \(unit.greeting.map { "\($0)" } ?? "commands")"
      )
    },
    ConformanceCase(
      ofHost: "host-key-refused", ["MS-17"], "A host that is refused for want of a key fails."
    ) { bench in
      try bench.needsKey()
      var plan = UnitEnd.Plan()
      plan.keys.answersHello = false
      let unit = try bench.unit(plan)
      try unit.waitForHello()
      try unit.send(
        MessageRecord(MessageRecord.Kind.refused, kind: 1, body: Array("not this key".utf8)))
      try unit.expectEnd(after: "`refused` of kind 1")
      try bench.expectFailure()
    },
  ]
}

extension HostBench {
  func needsKey() throws {
    if !hasKey { throw NotApplicable("no key was given: --key-file FILE") }
  }

  /// Throws where a program was started, and does not end as one that has failed.
  func expectFailure() throws {
    if let status = try waitForProgram(.seconds(15)) {
      try expect(status != 0, "expected that the program fails, got status 0")
    }
  }
}
