import FabricVerbs

/// MS-6 to MS-9: buffers, what is written into them, and pushes.
extension ConformanceCase {
  static let buffers: [ConformanceCase] =
    [
      message("buffer-back-unknown", "a buffer given back that was never taken") { _ in
        var message = MessageRecord(MessageRecord.Kind.credit)
        message.returns.0 = 3
        return message
      },
      message("buffer-list-short", "a buffer return without a list") { _ in
        MessageRecord(MessageRecord.Kind.bufferReturn)
      },
      message("buffer-list-lies", "a buffer return longer than its message") { _ in
        var message = MessageRecord(MessageRecord.Kind.bufferReturn)
        message.body.put(UInt64.max)
        message.body.put(UInt16(0))
        return message
      },
      message("buffer-list-unknown", "a list of buffers that were never taken") { _ in
        var message = MessageRecord(MessageRecord.Kind.bufferReturn)
        message.body.put(UInt64(1))
        message.body.put(UInt16(3))
        return message
      },
      message("buffer-name-short", "a buffer's name cut short") { _ in
        var message = MessageRecord(MessageRecord.Kind.user, kind: BlockKind.command)
        message.bufferCount = 1
        message.body = [0, 0]
        return message
      },
      message("buffer-unknown", "a buffer that does not exist") { host in
        named(UInt16(min(4096, host.opened!.bufferCount)), byteCount: 8)
      },
      message("buffer-overlong", "more bytes than a buffer has") { host in
        named(0, byteCount: host.opened!.bufferByteCount + 1)
      },
      ConformanceCase(
        "buffer-twice", ["MS-6", "MS-12"],
        "A buffer filled again before it came back ends the channel; one that came back does not."
      ) { bench in
        let host = try bench.openHost()
        // One after the other is what an honest host does.
        for _ in 0..<2 {
          host.note(filled: 0)
          try host.send(named(0, byteCount: 8))
          try host.wait("that buffer 0 comes back") {
            host.filled[0] == nil || host.line.end != nil
          }
          try expect(host.line.end == nil, "expected an open channel, got \(host.line.end ?? "")")
        }
        var count = 0
        while count < 500 && host.line.end == nil {
          for _ in 0..<2 {
            host.note(filled: 0)
            try host.send(named(0, byteCount: 8))
          }
          try host.wait("the end, or the buffer") { host.filled[0] == nil || host.line.end != nil }
          count += 1
        }
        if host.line.end == nil {
          throw NotApplicable("the unit gives buffers back faster than they can be filled twice")
        }
      },
      ConformanceCase(
        "immediate-no-buffer", ["MS-7", "MS-12"],
        "An immediate that names no buffer of the unit's ends the channel."
      ) { bench in
        let host = try bench.openHost()
        try host.needsImmediates()
        try host.tell(UInt32(16) << 16 | 0xffff)
        try host.expectEnd(after: "an immediate that names no buffer")
      },
      ConformanceCase(
        "immediate-short", ["MS-7", "MS-12"],
        "An immediate of less than a header ends the channel."
      ) { bench in
        let host = try bench.openHost()
        try host.needsImmediates()
        try host.tell(UInt32(8) << 16)
        try host.expectEnd(after: "an immediate of 8 bytes of header")
      },
      ConformanceCase(
        "immediate-long", ["MS-7", "MS-12"],
        "An immediate of more than the headroom ends the channel."
      ) { bench in
        let host = try bench.openHost()
        try host.needsImmediates()
        try host.tell(UInt32(4097) << 16)
        try host.expectEnd(after: "an immediate of 4097 bytes of header")
      },
      ConformanceCase(
        "push-unasked", ["MS-9", "MS-12"],
        "The end of a push that nobody asked for is no end of anything: the channel ends, or it is ignored."
      ) { bench in
        let host = try bench.openHost()
        try host.send(MessageRecord(MessageRecord.Kind.pushed, tag: 12345))
        try host.idle(.seconds(1))
        if host.line.end == nil { try host.expectAlive() }
      },
      ConformanceCase(
        "write-outside", ["MS-6", "MS-12"],
        "A write outside the advertised buffers reaches nothing."
      ) { bench in
        let bystander = try bench.openHost()
        let host = try bench.openHost()
        guard let opened = host.opened, opened.bufferCount > 0 else {
          throw NotApplicable("the unit advertises no buffers")
        }
        let size = UInt64(opened.bufferCount) * (4096 + UInt64(opened.bufferByteCount))
        try host.line.write(
          [1, 2, 3, 4], to: opened.bufferAddress + size + 1 << 20, key: opened.bufferKey)
        try host.expectEnd(after: "a write outside the buffers")
        try bystander.expectAlive()
      },
      ConformanceCase(
        "key-of-another", ["MS-6", "MS-12"],
        "A remote key of another connection's buffers does not reach them."
      ) { bench in
        let host = try bench.openHost()
        let other = try bench.openHost()
        guard let mine = host.opened, let theirs = other.opened, theirs.bufferCount > 0,
          mine.bufferKey != theirs.bufferKey
        else { throw NotApplicable("the connections share their buffers' key") }
        guard bench.target.adapter.capabilities.hasKeysOfOneConnection else {
          throw NotApplicable("the fabric has no keys of one connection")
        }
        try host.line.write([1, 2, 3, 4], to: theirs.bufferAddress, key: theirs.bufferKey)
        try host.expectEnd(after: "a write with another connection's key")
        try other.expectAlive()
      },
      ConformanceCase(
        "key-after-close", ["MS-6", "MS-10"],
        "The key of a connection that has ended reaches nothing any more."
      ) { bench in
        let first = try bench.openHost()
        let old = first.opened!
        first.line.disconnect()
        let host = try bench.openHost()
        guard old.bufferCount > 0, old.bufferKey != host.opened!.bufferKey else {
          throw NotApplicable("the new connection has the old one's key")
        }
        try host.line.write([1, 2, 3, 4], to: old.bufferAddress, key: old.bufferKey)
        try host.expectEnd(after: "a write with the key of a connection that is over")
      },
    ]

  private static func named(_ buffer: UInt16, byteCount: UInt32) -> MessageRecord {
    var message = MessageRecord(MessageRecord.Kind.user, kind: BlockKind.command)
    message.bufferCount = 1
    message.body.put(buffer)
    message.body.put(UInt16(0))
    message.body.put(byteCount)
    return message
  }

  /// A case whose message has to end the channel.
  private static func message(
    _ id: String, _ what: String, _ message: @escaping @Sendable (HostEnd) -> MessageRecord
  ) -> ConformanceCase {
    ConformanceCase(
      id, [id.hasPrefix("buffer-back") || id.hasPrefix("buffer-list") ? "MS-6" : "MS-8", "MS-12"],
      "On an open channel \(what) ends the channel."
    ) { bench in
      let host = try bench.openHost()
      try host.send(message(host))
      try host.expectEnd(after: what)
    }
  }
}

extension HostEnd {
  /// Throws where no immediates can be written.
  func needsImmediates() throws {
    guard line.adapter.capabilities.hasImmediateWrite, opened!.flags & 1 == 1,
      opened!.bufferCount > 0
    else { throw NotApplicable("no writes with immediate between these two") }
  }

  /// Writes a header into buffer 0's headroom, and an immediate of the judge's choice.
  func tell(_ immediate: UInt32) throws {
    let front = MessageRecord(MessageRecord.Kind.user, kind: BlockKind.command).bytes
    note(sent: 1)
    noteSent(kind: BlockKind.command, tag: 0, [])
    try line.write(
      front, to: address(of: 0) - UInt64(front.count), key: opened!.bufferKey, immediate: immediate)
  }
}
