/// IO-11, IO-40 to IO-43: what a unit has.
extension ConformanceCase {
  static let discovery: [ConformanceCase] = [
    ConformanceCase(
      "discovery-answer", ["IO-11", "IO-15"],
      "On a discovery channel identity, sizes and access are 0."
    ) { bench in
      let answer = try bench.openDiscovery().answer!
      try expect(
        answer.identity == (0, 0) && answer.blockCount == 0 && answer.blockByteCount == 0
          && answer.access == 0, "expected zeroes, got \(answer)")
    },
    ConformanceCase(
      "discovery-order", ["IO-17", "IO-40", "IO-41"],
      "Volumes come in bytewise order, each once, with the judged one among them."
    ) { bench in
      let names = try bench.openDiscovery().volumes().map(\.name)
      try expect(
        names.contains(bench.target.volume),
        "expected \(bench.target.volume) in the listing, got \(names)")
      for (one, other) in zip(names, names.dropFirst()) {
        try expect(
          Array(one.utf8).lexicographicallyPrecedes(Array(other.utf8)),
          "expected \"\(one)\" and \"\(other)\" in bytewise order")
      }
    },
    ConformanceCase(
      "discovery-agrees", ["IO-15", "IO-41"], "A volume's entry and its opening say the same of it."
    ) { bench in
      guard
        let entry = try bench.openDiscovery().volumes().first(where: {
          $0.name == bench.target.volume
        })
      else { throw Finding("expected \(bench.target.volume) in the listing") }
      let answer = try bench.openHost().answer!
      try expect(
        entry.identity == answer.identity && entry.blockCount == answer.blockCount
          && entry.blockByteCount == answer.blockByteCount,
        "expected \(answer) as in the opening, got \(entry)")
    },
    ConformanceCase(
      "discovery-addresses", ["IO-42", "IO-43"], "Addresses come by number, and end."
    ) { bench in
      let host = try bench.openDiscovery()
      for number: UInt16 in 0..<64 {
        var query: [UInt8] = []
        query.put(number)
        try host.send(kind: BlockKind.addressQuery, query)
        let body = try host.answer(BlockKind.addressEntry, to: "an address query")
        try expect(body.count >= 4 && body[0] <= 1, "IO-43: expected an entry, got \(body)")
        let lengths = (Int(body[2]), Int(body[3]))
        try expect(
          body.count == 4 + lengths.0 + lengths.1,
          "IO-43: expected bytes of both names, got \(body)")
        if body[0] == 0 {
          try expect(body.allSatisfy { $0 == 0 }, "IO-43: expected zeroes, got \(body)")
          return
        }
        try expect(body[1] <= 2, "IO-60: expected a path state of 0 to 2, got \(body[1])")
      }
    },
    ending("discovery-command", ["IO-11"], "a command") { host in
      try host.send(host.command(BlockOpcode.flush, tag: 1))
    },
    ending("discovery-query-long", ["IO-40"], "a query of 65 bytes") { host in
      try host.send(kind: BlockKind.volumeQuery, [UInt8](repeating: 0x61, count: 65))
    },
  ]

  private static func ending(
    _ id: String, _ clauses: [String], _ what: String,
    _ send: @escaping @Sendable (HostEnd) throws -> Void
  ) -> ConformanceCase {
    ConformanceCase(id, clauses, "On a discovery channel \(what) ends it.") { bench in
      let host = try bench.openDiscovery()
      try send(host)
      try host.expectEnd(after: what)
    }
  }
}

/// IO-41.
struct VolumeEntryRecord {
  let access: UInt8
  let blockByteCount: UInt32
  let identity: (high: UInt64, low: UInt64)
  let blockCount: UInt64
  let name: String
}

extension UnitBench {
  func openDiscovery() throws -> HostEnd {
    try openHost(greeting: {
      $0.volume = ""
      $0.access = 0
    })
  }
}

extension HostEnd {
  /// The payload of the next message, which has to be of a kind.
  func answer(_ kind: UInt16, to what: String) throws -> [UInt8] {
    var found: MessageRecord?
    try wait("an answer to \(what)") {
      found = takeMessage { $0.kind == kind }
      return found != nil || line.end != nil
    }
    guard let found else { throw Finding("expected an answer to \(what), got \(line.end ?? "")") }
    return found.body
  }

  /// All volumes, one query after the other.
  func volumes() throws -> [VolumeEntryRecord] {
    var entries: [VolumeEntryRecord] = []
    while entries.count < 10_000 {
      try send(kind: BlockKind.volumeQuery, Array((entries.last?.name ?? "").utf8))
      let body = try answer(BlockKind.volumeEntry, to: "a volume query")
      try expect(
        body.count >= 32 && body.count == 32 + Int(body[2]) && body[3] == 0,
        "IO-41: expected 32 bytes and the name, got \(body)")
      if body[0] == 0 {
        try expect(body.allSatisfy { $0 == 0 }, "IO-41: expected zeroes, got \(body)")
        return entries
      }
      try expect(body[0] == 1 && body[1] <= 1, "IO-41: expected presence and access, got \(body)")
      entries.append(
        VolumeEntryRecord(
          access: body[1], blockByteCount: body.number(UInt32.self, at: 4),
          identity: (body.number(UInt64.self, at: 8), body.number(UInt64.self, at: 16)),
          blockCount: body.number(UInt64.self, at: 24),
          name: body.text(at: 32, byteCount: Int(body[2]))))
    }
    throw Finding("expected an end of the listing, got 10000 volumes")
  }
}
