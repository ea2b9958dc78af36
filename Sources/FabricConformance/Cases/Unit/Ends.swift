/// MS-10: how channels end.
extension ConformanceCase {
  static let ends: [ConformanceCase] = [
    ConformanceCase(
      "close-arrives", ["MS-10"], "What was sent before `close` arrives; then the unit hangs up."
    ) { bench in
      try bench.needsWriting()
      let host = try bench.openHost()
      let data = [UInt8](repeating: 0xC1, count: Int(host.answer!.blockByteCount))
      var command = host.command(BlockOpcode.write, tag: 5, count: 1)
      command.dataByteCount = UInt32(data.count)
      try host.send(command, data: data)
      try host.send(MessageRecord(MessageRecord.Kind.close))
      try host.expectEnd(.seconds(3), after: "`close`")
      try bench.openHost().expectBlocks(data, at: 0, tag: 6)
    },
    ConformanceCase(
      "close-before-opening", ["MS-4", "MS-10"],
      "`close` in place of an opening ends the connection."
    ) { bench in
      let host = try bench.host()
      try host.connect()
      try host.send(MessageRecord(MessageRecord.Kind.close))
      try host.expectEnd(after: "`close` in place of an opening")
    },
    ConformanceCase(
      "close-of-unit", ["MS-10"],
      "A unit that closes waits for the host to hang up, but not for ever."
    ) { bench in
      let host = try bench.openHost()
      host.leavesOnClose = false
      try host.send(kind: 99, [])
      try host.expectEnd(.seconds(3), after: "its own `close`")
    },
    ConformanceCase(
      "hang-up-in-work", ["MS-10", "IO-37"],
      "A host that hangs up with commands under way harms nobody."
    ) { bench in
      let bystander = try bench.openHost()
      for _ in 0..<8 {
        let host = try bench.openHost()
        for tag in 1...8 { try host.send(host.command(BlockOpcode.flush, tag: UInt32(tag))) }
        host.line.disconnect()
      }
      try bystander.expectAlive()
    },
  ]
}
