/// MS-1, MS-2, MS-12: what is no message, and what is out of place.
extension ConformanceCase {
  static let headers: [ConformanceCase] =
    [
      violation("header-empty", ["MS-1", "MS-12"], "an empty message") { _ in [] },
      violation("header-short", ["MS-1", "MS-12"], "a header cut short") { header in
        Array(header.bytes[..<15])
      },
      violation("header-type-zero", ["MS-1", "MS-2", "MS-12"], "type 0") { header in
        [0] + header.bytes.dropFirst()
      },
      violation("header-type-unknown", ["MS-1", "MS-2", "MS-12"], "type 11") { header in
        [11] + header.bytes.dropFirst()
      },
      violation("header-two-buffers", ["MS-1", "MS-12"], "two buffers named") { header in
        var header = header
        header.bufferCount = 2
        header.body = [UInt8](repeating: 0, count: 16)
        return header.bytes
      },
      violation("second-open", ["MS-3", "MS-12"], "a second `open`") { header in
        MessageRecord(
          MessageRecord.Kind.open,
          body: OpeningRecord(
            greeting: HostGreeting(volume: "a", host: "b", session: (1, 2)).bytes
          ).bytes
        ).bytes
      },
      violation("opened-by-host", ["MS-2", "MS-3", "MS-12"], "`opened` from the initiator") { _ in
        MessageRecord(MessageRecord.Kind.opened, body: OpeningRecord(greeting: []).bytes).bytes
      },
      violation("refused-by-host", ["MS-2", "MS-12"], "`refused` on an open channel") { _ in
        MessageRecord(MessageRecord.Kind.refused, body: Array("no".utf8)).bytes
      },
      violation("hello-late", ["MS-14", "MS-12"], "`hello` on an open channel") { _ in
        MessageRecord(
          MessageRecord.Kind.hello, body: KeyTalk.hello(name: "late", nonce: KeyTalk.nonce())
        ).bytes
      },
      violation("challenge-by-host", ["MS-14", "MS-12"], "`challenge` from the initiator") { _ in
        MessageRecord(MessageRecord.Kind.challenge, body: [UInt8](repeating: 7, count: 64)).bytes
      },
      ConformanceCase(
        "bystander", ["MS-12"], "A violation ends its own channel and nobody else's."
      ) { bench in
        let bystander = try bench.openHost()
        let culprit = try bench.openHost()
        try culprit.sendRaw([99])
        try culprit.expectEnd(after: "one byte in place of a message")
        try bystander.expectAlive()
      },
    ]

  /// A case that sends bytes on an open channel, which the unit has to end for it.
  private static func violation(
    _ id: String, _ clauses: [String], _ what: String,
    bytes: @escaping @Sendable (MessageRecord) -> [UInt8]
  ) -> ConformanceCase {
    ConformanceCase(id, clauses, "On an open channel \(what) ends the channel.") { bench in
      let host = try bench.openHost()
      try host.sendRaw(bytes(MessageRecord(MessageRecord.Kind.user, kind: BlockKind.volumeQuery)))
      try host.expectEnd(after: what)
    }
  }
}

extension HostEnd {
  /// Throws unless the channel serves: a flush is answered.
  func expectAlive() throws {
    try send(command(BlockOpcode.flush, tag: 0x7f01))
    try expectStatus(BlockStatus.success, of: 0x7f01, "a flush on a channel that did nothing wrong")
  }
}
