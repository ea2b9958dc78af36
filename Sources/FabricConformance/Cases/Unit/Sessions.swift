/// IO-14, IO-37, IO-50 to IO-52, IO-61: sessions, epochs and fences.
extension ConformanceCase {
  static let sessions: [ConformanceCase] = [
    ConformanceCase(
      "epoch-fences", ["IO-14"], "A greater epoch ends the connections of earlier ones."
    ) { bench in
      let old = try bench.openHost()
      let new = try bench.openHost(greeting: {
        $0.session = old.session
        $0.epoch = 2
      })
      try old.expectEnd(after: "a greater epoch of its session")
      try new.expectAlive()
    },
    ConformanceCase(
      "epoch-stale", ["IO-14", "IO-16"], "An epoch less than the session's newest is refused."
    ) { bench in
      let host = try bench.openHost(greeting: { $0.epoch = 5 })
      let late = try bench.host()
      try late.open(greeting: {
        $0.session = host.session
        $0.epoch = 4
        $0.number = 1
      })
      try late.expectRefusal(of: "a stale epoch")
      try host.expectAlive()
    },
    ConformanceCase(
      "epoch-same", ["IO-14"],
      "Epoch and number of a connection that is not over are refused to another."
    ) { bench in
      let host = try bench.openHost()
      let twin = try bench.host()
      try twin.open(greeting: { $0.session = host.session })
      try twin.expectRefusal(of: "epoch and number of a living connection")
      try host.expectAlive()
    },
    ConformanceCase(
      "epoch-beside", ["IO-14"], "Connections of one epoch stand beside each other."
    ) { bench in
      let host = try bench.openHost()
      let beside = try bench.openHost(greeting: {
        $0.session = host.session
        $0.number = 1
      })
      try host.expectAlive()
      try beside.expectAlive()
    },
    ConformanceCase(
      "sessions-apart", ["IO-14"], "Sessions of other hosts notice nothing of a new epoch."
    ) { bench in
      let bystander = try bench.openHost()
      let old = try bench.openHost()
      _ = try bench.openHost(greeting: {
        $0.session = old.session
        $0.epoch = 9
      })
      try bystander.expectAlive()
    },
    ConformanceCase(
      "fence", ["IO-50", "IO-51", "IO-52"],
      "A fence ends the connection that it names, and tells how its commands ended."
    ) { bench in
      try bench.needsWriting()
      let lost = try bench.openHost()
      let data = lost.pattern(byteCount: Int(lost.answer!.blockByteCount), 0x31)
      try lost.writeBlocks(data, at: 8, tag: 0x2_0007)
      let host = try bench.openHost(greeting: {
        $0.session = lost.session
        $0.number = 1
      })
      try host.send(kind: BlockKind.fence, FenceRecord.request(1, 0, tags: [0x2_0007, 0x3_0001]))
      let body = try host.answer(BlockKind.fenced, to: "a fence")
      try lost.expectEnd(after: "a fence that names it")
      try expect(
        body.count == 8 + 2 * 12, "IO-52: expected 32 bytes for two tags, got \(body.count)")
      try expect(
        body.number(UInt32.self, at: 0) == 1 && body[4] == 0 && body[5] == 2,
        "IO-52: expected epoch 1, number 0 and two outcomes, got \(body)")
      try expect(body[6] == 1, "IO-52: expected that the unit remembers, got \(body[6])")
      try expect(
        body.number(UInt32.self, at: 8) == 0x2_0007 && body.number(UInt16.self, at: 16) == 0
          && body[18] == 1, "IO-52: expected the write's success, got \(body)")
      try expect(
        body.number(UInt32.self, at: 20) == 0x3_0001 && body[30] == 0,
        "IO-52: expected no end of a command that was never sent, got \(body)")
    },
    ConformanceCase(
      "fence-unknown", ["IO-50", "IO-51", "IO-52"],
      "Of a connection that it does not know nothing is under way."
    ) { bench in
      let host = try bench.openHost(greeting: { $0.number = 1 })
      try host.send(kind: BlockKind.fence, FenceRecord.request(1, 9, tags: []))
      let body = try host.answer(BlockKind.fenced, to: "a fence of an unknown connection")
      try expect(
        body.count == 8 && body[4] == 9 && body[6] == 0,
        "IO-52: expected number 9, not remembered, got \(body)")
      try host.expectAlive()
    },
    ending("fence-itself", "a fence that names the connection itself") { host in
      FenceRecord.request(1, 0, tags: [])
    },
    ending("fence-many", "a fence with 17 tags") { host in
      FenceRecord.request(1, 3, tags: (0..<17).map { UInt32($0) })
    },
    ending("fence-short", "a fence cut short") { host in
      Array(FenceRecord.request(1, 3, tags: [1]).dropLast(2))
    },
    ConformanceCase(
      "path-state-told", ["IO-60", "IO-61"], "What the unit tells of a path's state has its form."
    ) { bench in
      let host = try bench.openHost()
      try host.idle(.milliseconds(200))
      while let message = host.takeMessage({ $0.kind == BlockKind.pathState }) {
        try expect(
          message.body.count == 4 && message.body[0] <= 2
            && message.body[1...].allSatisfy { $0 == 0 },
          "IO-61: expected a state of 0 to 2 and three zeroes, got \(message.body)")
      }
    },
  ]

  private static func ending(
    _ id: String, _ what: String, _ bytes: @escaping @Sendable (HostEnd) -> [UInt8]
  ) -> ConformanceCase {
    ConformanceCase(id, ["IO-50"], "On an open channel \(what) ends it.") { bench in
      let host = try bench.openHost()
      try host.send(kind: BlockKind.fence, bytes(host))
      try host.expectEnd(after: what)
    }
  }
}

/// IO-50.
enum FenceRecord {
  static func request(_ epoch: UInt32, _ number: UInt8, tags: [UInt32]) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.put(epoch)
    bytes.put(number)
    bytes.put(UInt8(tags.count))
    bytes.put(UInt16(0))
    for tag in tags { bytes.put(tag) }
    return bytes
  }
}
