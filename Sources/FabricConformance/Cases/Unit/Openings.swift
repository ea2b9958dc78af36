import FabricPlatform

/// MS-3, MS-4: openings that are sound, and openings that are not.
extension ConformanceCase {
  static let openings: [ConformanceCase] =
    [
      ConformanceCase(
        "opened", ["MS-1", "MS-2", "MS-3"], "A sound `open` is answered by one sound `opened`."
      ) { bench in
        let host = try bench.openHost()
        try host.idle(.milliseconds(100))
      },
      ConformanceCase(
        "opened-version-range", ["MS-3", "MS-4"],
        "Of a range of versions with 1 in it, 1 is chosen."
      ) { bench in
        let host = try bench.host()
        try host.openChannel {
          $0.lowestVersion = 0; $0.highestVersion = 9
        }
        try expect(host.opened?.lowestVersion == 1, "expected version 1, got \(host.opened!)")
      },
      refusal("opening-version", "versions 2 to 3") {
        $0.lowestVersion = 2; $0.highestVersion = 3
      },
      refusal("opening-version-inverted", "versions 3 to 1") {
        $0.lowestVersion = 3
        $0.highestVersion = 1
      },
      refusal("opening-few-receives", "7 receives") { $0.receiveCount = 7 },
      refusal("opening-many-receives", "16385 receives") { $0.receiveCount = 16385 },
      refusal("opening-short-receives", "receives of 255 bytes") { $0.messageByteCount = 255 },
      refusal("opening-long-receives", "receives of 65537 bytes") { $0.messageByteCount = 65537 },
      refusal("opening-many-buffers", "4097 buffers") {
        $0.bufferCount = 4097
        $0.bufferByteCount = 4096
      },
      refusal("opening-long-buffers", "buffers of 16 MiB and a byte") {
        $0.bufferCount = 1
        $0.bufferByteCount = 16 << 20 + 1
      },
      refusal("opening-greeting-longer", "more greeting than there is") {
        $0.greetingByteCount = UInt16($0.greeting.count + 1)
      },
      refusal("opening-greeting-shorter", "less greeting than there is") {
        $0.greetingByteCount = UInt16($0.greeting.count - 1)
      },
      ConformanceCase(
        "opening-greeting-too-long", ["MS-3", "MS-4"],
        "An opening with a greeting of 161 bytes is refused in words."
      ) { bench in
        // With a proof it would be longer than a receive has to be.
        try bench.needsNoKey()
        let host = try bench.host()
        try host.open { $0.greeting += [UInt8](repeating: 0, count: 161 - $0.greeting.count) }
        try host.expectRefusal(of: "an opening with a greeting of 161 bytes")
      },
      ConformanceCase(
        "opening-short", ["MS-3", "MS-4"], "An `open` without all its fields opens nothing."
      ) { bench in
        try bench.needsNoKey()
        let host = try bench.host()
        try host.connect()
        try host.send(
          MessageRecord(MessageRecord.Kind.open, body: [UInt8](repeating: 0, count: 40)))
        try host.wait("a refusal or the end") { host.refusal != nil || host.line.end != nil }
        try expect(host.opened == nil, "expected no `opened`")
      },
      ConformanceCase(
        "opening-early-message", ["MS-4"], "Before the opening nothing but the opening is accepted."
      ) { bench in
        let host = try bench.host()
        try host.connect()
        try host.send(kind: BlockKind.volumeQuery, [])
        try host.expectEnd(after: "a message before the opening")
        try expect(host.messages.isEmpty, "expected no answer, got \(host.messages)")
      },
      ConformanceCase(
        "opening-silence", ["MS-4"], "Who does not open within 5 s is cut off."
      ) { bench in
        let host = try bench.host()
        let start = MonotonicTime.now
        try host.connect()
        try host.expectEnd(.seconds(8), after: "8 s of silence in place of an opening")
        let time = MonotonicTime.now.nanoseconds(since: start) / 1_000_000
        try expect(time >= 1000, "expected some seconds of patience, got \(time) ms")
      },
      ConformanceCase(
        "opening-hang-up", ["MS-4"],
        "A connection that ends in the middle of its opening harms nobody."
      ) { bench in
        let bystander = try bench.openHost()
        for _ in 0..<8 {
          let host = try bench.host()
          try host.connect()
          try host.sendOpen(OpeningRecord(greeting: host.greeting().bytes))
          host.line.disconnect()
        }
        try bystander.expectAlive()
      },
      ConformanceCase(
        "opening-crowd", ["MS-4", "MS-18"],
        "Of more than 256 peers that do not open the first is cut off; an honest one gets in."
      ) { bench in
        let bystander = try bench.openHost()
        var shape = Line.Shape()
        shape.receiveCount = 8
        shape.messageByteCount = 512
        var crowd: [HostEnd] = []
        while crowd.count < 257 {
          let host = try bench.host(shape)
          try host.line.connect(to: bench.target.address, timeout: .seconds(5))
          host.line.wait(.seconds(6)) { host.line.isEstablished || host.line.end != nil }
          if let rejection = host.line.rejection {
            try expect(
              rejection.first == 2 && rejection.count <= 256,
              "MS-18: expected a rejection of 2 and text, together at most 256 bytes, got \(rejection)"
            )
          }
          crowd.append(host)
          // Where connecting takes long the bystander must not fall silent.
          if crowd.count % 32 == 0 {
            try bystander.send(MessageRecord(MessageRecord.Kind.credit))
            try bystander.idle(.zero)
          }
        }
        try crowd[0].wait("that the first of 257 is cut off", .seconds(2)) {
          crowd[0].line.end != nil
        }
        try bench.host().openChannel()
        try bystander.expectAlive()
      },
    ]

  /// A case whose opening has to be refused in words.
  private static func refusal(
    _ id: String, _ what: String, _ change: @escaping @Sendable (inout OpeningRecord) -> Void
  ) -> ConformanceCase {
    ConformanceCase(id, ["MS-3", "MS-4"], "An opening with \(what) is refused in words.") { bench in
      let host = try bench.host()
      try host.open(change)
      // One of them waits for the unit to hang up; the others would each take its patience.
      try host.expectRefusal(of: "an opening with \(what)", hangsUp: id != "opening-version")
    }
  }
}

extension HostEnd {
  /// Throws unless the unit refused in words that are text.
  ///
  /// - Parameter hangsUp: whether to hang up then, as honest hosts do, or to wait until the unit does.
  func expectRefusal(of what: String, hangsUp: Bool = true) throws {
    guard let refusal else {
      throw Finding("expected that \(what) is refused in words, got \(outcome)")
    }
    try expect(!refusal.words.isEmpty, "expected the reason why \(what) is refused, got no words")
    try expect(
      !refusal.words.contains("\u{fffd}"), "IO-16: expected UTF-8, got \"\(refusal.words)\"")
    try expect(opened == nil, "expected `refused` alone, got `opened`, too")
    if hangsUp { line.leave() } else { try expectEnd(after: "a refusal") }
  }
}

extension UnitBench {
  /// Throws where keys are proven, which go before what the case says.
  func needsNoKey() throws {
    if target.key != nil { throw NotApplicable("what goes before an opening with a key hides it") }
  }
}
