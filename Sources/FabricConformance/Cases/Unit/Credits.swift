/// MS-5, MS-11, MS-13: credit of messages, and beats.
extension ConformanceCase {
  static let credits: [ConformanceCase] = [
    ConformanceCase(
      "credit-beyond", ["MS-5", "MS-12"], "A count of receives that cannot be ends the channel."
    ) { bench in
      let host = try bench.openHost()
      var message = MessageRecord(MessageRecord.Kind.credit)
      message.reposted = 100_000
      try host.send(message)
      try host.expectEnd(after: "100,000 receives reposted")
    },
    ConformanceCase(
      "credit-repeated", ["MS-5"], "A count that is repeated does no harm."
    ) { bench in
      let host = try bench.openHost()
      for _ in 0..<8 { try host.send(MessageRecord(MessageRecord.Kind.credit)) }
      try host.expectAlive()
    },
    ConformanceCase(
      "credit-obeyed", ["MS-5", "MS-13"],
      "A unit sends no more messages than the host has receives for, and goes on when it has more."
    ) { bench in
      var shape = Line.Shape()
      shape.receiveCount = 16
      shape.reposts = false
      let host = try bench.host(shape)
      // The line has twice the receives that it tells of, so that an overrun is seen as what it is.
      try host.openChannel({ $0.receiveCount = 8 }, greeting: { $0.volume = "" })
      let before = host.messageCount
      let queryCount = min(14, Int(host.opened!.receiveCount) - 3)
      for _ in 0..<queryCount { try host.send(kind: BlockKind.volumeQuery, []) }
      try host.idle(.milliseconds(500))
      let got = host.messageCount
      try expect(
        got <= 8,
        "expected at most 8 messages for 8 receives, got \(got) (\(before) at the opening)")
      try expect(host.line.end == nil, "expected that the unit waits, got \(host.line.end ?? "")")
      var answers = 0
      for _ in 0..<queryCount where answers < queryCount {
        try host.line.repost()
        try host.send(MessageRecord(MessageRecord.Kind.credit))
        let start = host.messageCount
        try host.wait("more answers after more credit", .seconds(3)) {
          answers += host.takeMessages()
          return answers >= queryCount || host.messageCount - start >= 1
        }
      }
      answers += host.takeMessages()
      try expect(
        answers == queryCount, "expected \(queryCount) answers in the end, got \(answers)")
    },
    ConformanceCase(
      "credit-reported", ["MS-5"],
      "A side reports the receives it reposted once half of its window is untold."
    ) { bench in
      let host = try bench.openHost()
      let window = host.opened!.receiveCount
      for _ in 0..<window / 2 + 1 {
        try host.send(MessageRecord(MessageRecord.Kind.credit))
      }
      try host.wait("that the unit reports half of its window as reposted", .seconds(3)) {
        host.peerRepostedCount >= window / 2
      }
    },
    ConformanceCase(
      "beat-interval", ["MS-11"], "A unit beats as often as the host's opening asks."
    ) { bench in
      let host = try bench.host()
      try host.openChannel { $0.heartbeatMilliseconds = 200 }
      let before = host.messageCount
      for _ in 0..<10 {
        try host.idle(.milliseconds(200))
        try host.send(MessageRecord(MessageRecord.Kind.credit))
      }
      let count = host.messageCount - before
      try expect(host.line.end == nil, "expected an open channel, got \(host.line.end ?? "")")
      try expect(
        (5...25).contains(count), "expected about 10 beats in 2 s at 200 ms, got \(count)")
    },
    ConformanceCase(
      "beat-silence", ["MS-11"], "A host that falls silent for six intervals is given up."
    ) { bench in
      let host = try bench.host()
      host.beats = false
      try host.openChannel { $0.heartbeatMilliseconds = 100 }
      try host.idle(.milliseconds(300))
      try expect(
        host.line.end == nil, "expected five intervals of patience, got \(host.line.end ?? "")")
      try host.expectEnd(.seconds(2), after: "six intervals of silence")
    },
  ]
}

extension HostEnd {
  /// Takes all messages of the user's; how many they were.
  func takeMessages() -> Int {
    var count = 0
    while takeMessage({ _ in true }) != nil { count += 1 }
    return count
  }
}
