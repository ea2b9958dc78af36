/// What units must not say, and how hosts take it.
extension ConformanceCase {
  static let hostViolations: [ConformanceCase] =
    [
      violation("host-header-short", ["MS-1", "MS-12"], "a header cut short") { unit in
        try unit.sendRaw([4, 0, 2])
      },
      violation("host-header-type", ["MS-1", "MS-2", "MS-12"], "type 11") { unit in
        try unit.send(MessageRecord(11))
      },
      violation("host-header-buffers", ["MS-1", "MS-12"], "two buffers named") { unit in
        var message = MessageRecord(MessageRecord.Kind.user, kind: BlockKind.response)
        message.bufferCount = 2
        message.body = [UInt8](repeating: 0, count: 32)
        try unit.send(message)
      },
      violation("host-credit-beyond", ["MS-5", "MS-12"], "100,000 receives reposted") { unit in
        var message = MessageRecord(MessageRecord.Kind.credit)
        message.reposted = 100_000
        try unit.send(message)
      },
      violation("host-buffer-back", ["MS-6", "MS-12"], "a buffer back that was never filled") {
        unit in
        var message = MessageRecord(MessageRecord.Kind.credit)
        message.returns.0 = 4095
        try unit.send(message)
      },
      violation("host-second-opened", ["MS-3", "MS-12"], "a second `opened`") { unit in
        try unit.sendOpened()
      },
      violation("host-buffer-none", ["MS-6", "MS-8", "MS-12"], "a transfer into no buffer of its") {
        unit in
        var message = MessageRecord(MessageRecord.Kind.user, kind: BlockKind.response)
        message.bufferCount = 1
        message.body.put(UInt16(0xfff))
        message.body.put(UInt16(0))
        message.body.put(UInt32(8))
        try unit.send(message)
      },
      violation("host-kind", ["IO-20"], "a message of kind 99") { unit in
        try unit.send(kind: 99, [])
      },
      violation("host-direction", ["IO-20"], "a command from the unit") { unit in
        try unit.send(
          kind: BlockKind.command, tag: 1, CommandRecord(BlockOpcode.flush, tag: 1).bytes)
      },
      stale("host-response-unasked", ["IO-22"], "a response to no command") { unit in
        try unit.respond(ResponseRecord(tag: unit.commands[0].command.tag ^ 0x0100_0000))
      },
      violation("host-response-short", ["IO-4", "IO-34"], "a response cut short") { unit in
        let tag = unit.commands[0].command.tag
        try unit.send(
          kind: BlockKind.response, tag: tag, Array(ResponseRecord(tag: tag).bytes[..<12]))
      },
      violation("host-response-reserved", ["IO-5"], "a response with a reserved byte that is not 0")
      { unit in
        var response = ResponseRecord(tag: unit.commands[0].command.tag)
        response.lastReserved = 1
        try unit.respond(response)
      },
      stale("host-push-unasked", ["MS-9", "IO-22"], "the end of a push to nobody") { unit in
        let tag = unit.commands[0].command.tag ^ 0x0100_0000
        try unit.send(MessageRecord(MessageRecord.Kind.pushed, tag: tag))
      },
      violation("host-path-state", ["IO-4", "IO-61"], "a path state of 7") { unit in
        try unit.send(kind: BlockKind.pathState, [7, 0, 0, 0])
      },
    ]

  /// A case whose unit tells of an end that is none: the command that is under way has to stay so.
  private static func stale(
    _ id: String, _ clauses: [String], _ what: String,
    _ say: @escaping @Sendable (UnitEnd) throws -> Void
  ) -> ConformanceCase {
    ConformanceCase(ofHost: id, clauses, "A host takes \(what) for no end of a command.") { bench in
      var plan = UnitEnd.Plan()
      plan.depth = 1
      let unit = try bench.unit(plan)
      try unit.open()
      try unit.waitForCommand()
      try say(unit)
      // With one command at once a second one shows that the first was taken for ended.
      try unit.idle(.milliseconds(300))
      if unit.isOver { return }
      try unit.answerAll()
      try unit.waitForCommand()
    }
  }

  /// A case whose unit says something that a host has to end the channel for.
  private static func violation(
    _ id: String, _ clauses: [String], _ what: String,
    _ say: @escaping @Sendable (UnitEnd) throws -> Void
  ) -> ConformanceCase {
    ConformanceCase(ofHost: id, clauses, "A host ends the channel for \(what).") { bench in
      let unit = try bench.unit()
      try unit.open()
      try unit.waitForCommand()
      try say(unit)
      try unit.expectEnd(after: what)
    }
  }
}
