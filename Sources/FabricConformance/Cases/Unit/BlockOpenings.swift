/// IO-2 to IO-17: greetings, and what the unit answers.
extension ConformanceCase {
  static let blockOpenings: [ConformanceCase] =
    [
      ConformanceCase(
        "unit-answer", ["IO-1", "IO-2", "IO-5", "IO-12", "IO-15", "IO-60"],
        "The unit's answer has sound sizes, access, depth, path state and name."
      ) { bench in
        let answer = try bench.openHost().answer!
        try expect(answer.mark == HostGreeting.mark, "IO-2: expected CFIO, got \(answer.mark)")
        try expect(answer.version == 1, "IO-3: expected version 1, got \(answer.version)")
        try expect(answer.access <= 1, "expected access 0 or 1, got \(answer.access)")
        try expect(
          (1...64).contains(answer.name.utf8.count),
          "IO-12: expected a name of 1 to 64 bytes, got \"\(answer.name)\"")
        try expect(answer.blockCount > 0, "expected blocks, got none")
        let size = answer.blockByteCount
        try expect(
          size >= 512 && size & (size - 1) == 0,
          "expected a power of two of 512 or more, got \(size)")
        try expect(
          answer.maximumTransferByteCount >= size,
          "expected transfers of a block or more, got \(answer.maximumTransferByteCount) bytes")
        try expect(answer.depth > 0, "expected a depth of 1 or more, got 0")
        try expect(answer.pathState <= 2, "expected path state 0 to 2, got \(answer.pathState)")
        try expect(answer.reserved == 0, "IO-5: expected 0 in the reserved byte")
        try expect(
          answer.identity.high != 0 || answer.identity.low != 0, "expected an identity, got 0")
      },
      ConformanceCase(
        "identity-stays", ["IO-15"], "A volume has one identity, whoever asks."
      ) { bench in
        let one = try bench.openHost().answer!.identity
        let other = try bench.openHost().answer!.identity
        try expect(one == other, "expected the identity \(one) again, got \(other)")
      },
      refusal("greeting-mark", ["IO-2", "IO-16"], "another mark") { $0.mark = Array("XFIO".utf8) },
      refusal("greeting-access", ["IO-4", "IO-10"], "access 2") { $0.access = 2 },
      refusal("greeting-depth", ["IO-10"], "no commands in flight") { $0.depth = 0 },
      refusal(
        "greeting-volume-length", ["IO-4", "IO-10"], "a volume's name that goes on behind its end"
      ) {
        $0.volumeByteCount = 250
      },
      refusal(
        "greeting-host-length", ["IO-4", "IO-10"], "a host's name that goes on behind its end"
      ) {
        $0.hostByteCount = 250
      },
      refusal("greeting-host-empty", ["IO-12"], "a host without a name") { $0.host = "" },
      refusal("greeting-name-long", ["IO-12"], "a volume's name of 65 bytes") {
        $0.volume = String(repeating: "v", count: 65)
        $0.host = "h"
      },
      refusal("greeting-volume-unknown", ["IO-16", "IO-17"], "a volume that is not there") {
        $0.volume = "no-such-volume-\(UInt32.random(in: 0 ... .max))"
      },
      ConformanceCase(
        "greeting-version", ["IO-3", "IO-16"],
        "Another version is refused in words that say both numbers."
      ) { bench in
        let host = try bench.host()
        try host.open(greeting: { $0.version = 77 })
        try host.expectRefusal(of: "version 77")
        let words = host.refusal!.words
        try expect(
          words.contains("77") && words.contains("1"),
          "expected a refusal that says 1 and 77, got \"\(words)\"")
      },
      ConformanceCase(
        "greeting-short", ["IO-4", "IO-10"], "A greeting without all its fields is refused."
      ) { bench in
        let host = try bench.host()
        try host.open { $0.greeting = Array($0.greeting.prefix(20)) }
        try host.expectRefusal(of: "a greeting of 20 bytes")
      },
      ConformanceCase(
        "read-only-volume", ["IO-13"], "A read-only volume is not opened for writing."
      ) { bench in
        let discovery = try bench.openDiscovery()
        guard let entry = try discovery.volumes().first(where: { $0.access == 0 }) else {
          throw NotApplicable("the unit has no read-only volume")
        }
        let host = try bench.host()
        try host.open(greeting: {
          $0.volume = entry.name
          $0.access = 1
        })
        try host.expectRefusal(of: "writing to the read-only volume \(entry.name)")
        let reader = try bench.openHost(greeting: {
          $0.volume = entry.name
          $0.access = 0
        })
        var command = reader.command(BlockOpcode.writeZeroes, tag: 1, count: 1)
        command.dataByteCount = 0
        try reader.send(command)
        try reader.expectStatus(BlockStatus.readOnly, of: 1, "write zeroes to a read-only volume")
      },
      ConformanceCase(
        "read-only-host", ["IO-10", "IO-33"], "Who opened for reading only does not write."
      ) { bench in
        let host = try bench.openHost(greeting: { $0.access = 0 })
        try host.send(host.command(BlockOpcode.writeZeroes, tag: 1, count: 1))
        try host.expectStatus(BlockStatus.readOnly, of: 1, "write zeroes from a read-only host")
      },
    ]

  private static func refusal(
    _ id: String, _ clauses: [String], _ what: String,
    _ change: @escaping @Sendable (inout HostGreeting) -> Void
  ) -> ConformanceCase {
    ConformanceCase(id, clauses, "A greeting with \(what) is refused in words.") { bench in
      if bench.target.key != nil, what.contains("host") {
        throw NotApplicable("with a key the host's name is the key's")
      }
      let host = try bench.host()
      try host.open(greeting: change)
      try host.expectRefusal(of: "a greeting with \(what)")
    }
  }
}
