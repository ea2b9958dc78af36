/// IO-70 to IO-75: control calls.
extension ConformanceCase {
  static let controls: [ConformanceCase] = [
    ConformanceCase(
      "control-identify", ["IO-70", "IO-71", "IO-72"], "Identify says what the opening said."
    ) { bench in
      let host = try bench.openHost()
      let answer = try host.call(1)
      let body = answer.payload
      try expect(answer.errno == 0, "expected success, got errno \(answer.errno)")
      try expect(
        body.count >= 32 && body.count == 32 + Int(body[29]) + Int(body[30]),
        "IO-72: expected 32 bytes and two names, got \(body)")
      try expect(
        body.number(UInt64.self, at: 0) == host.answer!.identity.high
          && body.number(UInt64.self, at: 16) == host.answer!.blockCount
          && body.number(UInt32.self, at: 24) == host.answer!.blockByteCount,
        "IO-72: expected identity and sizes of the opening, got \(body)")
      try expect(
        body.text(at: 32, byteCount: Int(body[29])) == bench.target.volume,
        "IO-72: expected the volume's name, got \(body)")
    },
    ConformanceCase(
      "control-block-size", ["IO-72", "IO-74"], "The block size is told; another cannot be set."
    ) { bench in
      let host = try bench.openHost()
      let size = host.answer!.blockByteCount
      let told = try host.call(2)
      try expect(
        told.errno == 0 && told.result == Int32(size), "expected \(size), got \(told)")
      var payload: [UInt8] = []
      payload.put(size * 2)
      let set = try host.call(3, payload)
      let (errno, name) = bench.target.mayWrite ? (22, "EINVAL") : (30, "EROFS")
      try expect(set.errno == errno, "expected \(name) for another block size, got \(set)")
    },
    ConformanceCase(
      "control-path-state", ["IO-60", "IO-72"], "The path's state is that of the opening."
    ) { bench in
      let host = try bench.openHost()
      let told = try host.call(5)
      try expect(
        told.errno == 0 && told.result == Int32(host.answer!.pathState),
        "expected \(host.answer!.pathState), got \(told)")
    },
    ConformanceCase(
      "control-rescan", ["IO-72"], "Rescan says whether the volume has grown, and its size."
    ) { bench in
      let told = try bench.openHost().call(4)
      try expect(
        told.errno == 0 && (0...1).contains(told.result) && told.payload.count == 8,
        "expected 0 or 1 and 8 bytes, got \(told)")
    },
    ConformanceCase(
      "control-health", ["IO-73"], "Health has seven numbers, which count what is done."
    ) { bench in
      try bench.needsWriting()
      let host = try bench.openHost()
      let before = try host.call(6)
      try expect(
        before.errno == 0 && before.payload.count == 56, "expected 56 bytes, got \(before)")
      let data = host.pattern(byteCount: Int(host.answer!.blockByteCount), 1)
      try host.writeBlocks(data, at: 0, tag: 1)
      let after = try host.call(6)
      let writes = (
        before.payload.number(UInt64.self, at: 16), after.payload.number(UInt64.self, at: 16)
      )
      let bytes = (
        before.payload.number(UInt64.self, at: 24), after.payload.number(UInt64.self, at: 24)
      )
      try expect(
        writes.1 > writes.0 && bytes.1 >= bytes.0 + UInt64(data.count),
        "IO-73: expected a write more, got \(writes) writes and \(bytes) bytes")
    },
    ConformanceCase(
      "control-unknown", ["IO-74"],
      "Codes that are unknown have ENOTTY, also those of vendors."
    ) { bench in
      let host = try bench.openHost()
      for code: UInt32 in [0, 99, 0x8000_1234] {
        let answer = try host.call(code)
        try expect(answer.errno == 25, "expected ENOTTY for code \(code), got \(answer)")
      }
      try host.expectAlive()
    },
    ConformanceCase(
      "control-sanitise", ["IO-74"], "Sanitise has EOPNOTSUPP."
    ) { bench in
      let answer = try bench.openHost().call(7)
      try expect(answer.errno == 95, "expected EOPNOTSUPP, got \(answer)")
    },
    ConformanceCase(
      "control-read-only", ["IO-74"], "A host that may only read sets no block size: EROFS."
    ) { bench in
      let host = try bench.openHost(greeting: { $0.access = 0 })
      var size: [UInt8] = []
      size.put(host.answer!.blockByteCount)
      let answer = try host.call(3, size)
      try expect(answer.errno == 30, "expected EROFS, got \(answer)")
    },
    ConformanceCase(
      "control-length", ["IO-74"], "A payload of another length than its code has is EINVAL."
    ) { bench in
      let host = try bench.openHost()
      for (code, payload) in [(UInt32(1), [UInt8](repeating: 0, count: 3)), (3, [1]), (5, [0])] {
        let answer = try host.call(code, payload)
        try expect(answer.errno == 22, "expected EINVAL for code \(code), got \(answer)")
      }
    },
    ConformanceCase(
      "control-malformed", ["IO-4", "IO-70"], "A call longer than its message is none."
    ) { bench in
      let host = try bench.openHost()
      var body: [UInt8] = []
      body.put(UInt32(1))
      body.put(UInt16(100))
      body.put(UInt16(0))
      try host.send(kind: BlockKind.controlCall, tag: 1, body)
      try host.wait("an errno or the end") {
        host.line.end != nil || host.messages.contains { $0.kind == BlockKind.controlAnswer }
      }
      if let message = host.takeMessage({ $0.kind == BlockKind.controlAnswer }) {
        try expect(
          message.body.number(UInt32.self, at: 0) != 0, "expected an errno, got \(message.body)")
      }
    },
  ]
}

/// IO-71.
struct ControlAnswerRecord {
  let errno: UInt32
  let result: Int32
  let payload: [UInt8]
}

extension HostEnd {
  /// Makes a control call, and waits for its answer.
  func call(_ code: UInt32, _ payload: [UInt8] = []) throws -> ControlAnswerRecord {
    let tag = UInt32.random(in: 1...0x7fff_ffff)
    var body: [UInt8] = []
    body.put(code)
    body.put(UInt16(payload.count))
    body.put(UInt16(0))
    try send(kind: BlockKind.controlCall, tag: tag, body + payload)
    var found: MessageRecord?
    try wait("an answer to control call \(code)") {
      found = takeMessage { $0.kind == BlockKind.controlAnswer && $0.tag == tag }
      return found != nil || line.end != nil
    }
    guard let answer = found?.body else {
      throw Finding("expected an answer to control call \(code), got \(line.end ?? "")")
    }
    let count = Int(answer.number(UInt16.self, at: 8))
    try expect(
      answer.count == 12 + count && count <= 200 && answer.number(UInt16.self, at: 10) == 0,
      "IO-71: expected 12 bytes and the payload, got \(answer)")
    let errno = answer.number(UInt32.self, at: 0)
    try expect(errno < 4096, "IO-71: expected an errno below 4096, got \(errno)")
    return ControlAnswerRecord(
      errno: errno, result: answer.number(Int32.self, at: 4), payload: Array(answer[12...]))
  }
}
