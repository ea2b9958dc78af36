import FabricVerbs

/// IO-20 to IO-36: commands, and what they must not be.
extension ConformanceCase {
  static let commands: [ConformanceCase] =
    [
      ending("message-kind", ["IO-20"], "a message of kind 99") { host in
        try host.send(kind: 99, tag: 1, [])
      },
      ending("message-direction", ["IO-20"], "a response from the host") { host in
        try host.send(kind: BlockKind.response, tag: 1, ResponseRecord(tag: 1).bytes)
      },
      ending("message-ready", ["IO-20"], "`ready` from the host") { host in
        try host.send(kind: BlockKind.ready, [])
      },
      ending("tag-high-bit", ["IO-22"], "a tag with its highest bit set") { host in
        try host.send(host.command(BlockOpcode.flush, tag: 0x8000_0001))
      },
      ConformanceCase(
        "tag-generation", ["IO-22", "IO-34"], "An answer has the command's tag, generation and all."
      ) { bench in
        let host = try bench.openHost()
        for tag: UInt32 in [0, 1, 0x1_0000, 0x7fff_0003, 0x7fff_ffff] {
          try host.send(host.command(BlockOpcode.flush, tag: tag))
          try host.expectStatus(BlockStatus.success, of: tag, "a flush")
        }
      },
      ConformanceCase(
        "tags-differ", ["IO-4", "IO-22"],
        "A message's tag that is not its command's is never a success."
      ) { bench in
        let host = try bench.openHost()
        try host.send(
          kind: BlockKind.command, tag: 8, host.command(BlockOpcode.flush, tag: 9).bytes)
        try host.wait("an end") {
          host.line.end != nil || host.messages.contains { $0.kind == BlockKind.response }
        }
        guard let message = host.takeMessage({ $0.kind == BlockKind.response }) else { return }
        let response = ResponseRecord(message.body)
        try expect(
          response.map { $0.status != 0 } ?? false, "expected no success, got \(message)")
      },
      ConformanceCase(
        "depth", ["IO-21"],
        "More commands at once than the answer allows end the channel, unless they have ended one by one."
      ) { bench in
        let host = try bench.openHost(greeting: { $0.depth = 1 })
        let count = min(24, Int(host.opened!.receiveCount) - 2)
        for tag in 1...count { try host.send(host.command(BlockOpcode.flush, tag: UInt32(tag))) }
        var answers = 0
        try host.wait("the end, or an answer to each of \(count)") {
          while host.takeMessage({ $0.kind == BlockKind.response }) != nil { answers += 1 }
          return host.line.end != nil || answers == count
        }
      },
      writing(
        "write-read", ["IO-30", "IO-31", "IO-32", "IO-36", "MS-8", "MS-9"],
        "What was written is read, by a push that is complete when its end is seen."
      ) { host in
        for round in 0..<16 {
          let data = host.pattern(byteCount: 2 * Int(host.answer!.blockByteCount), UInt8(round))
          try host.writeBlocks(data, at: 1, tag: UInt32(2 * round))
          try host.expectBlocks(data, at: 1, tag: UInt32(2 * round + 1))
        }
      },
      ConformanceCase(
        "read-without-immediates", ["MS-3", "MS-9", "IO-34"],
        "A host that understands no immediates is told of a read's end by a message."
      ) { bench in
        try bench.needsWriting()
        let host = try bench.openHost({ $0.flags = 0 })
        let data = host.pattern(byteCount: Int(host.answer!.blockByteCount), 0x44)
        try host.writeBlocks(data, at: 1, tag: 1)
        try host.expectBlocks(data, at: 1, tag: 2)
      },
      writing(
        "write-immediate", ["MS-7", "IO-31"],
        "A transfer told by an immediate is carried out as one told by a message."
      ) { host in
        try host.needsImmediates()
        for round in 0..<16 {
          let data = host.pattern(byteCount: Int(host.answer!.blockByteCount), UInt8(100 + round))
          try host.writeBlocks(data, at: 3, tag: UInt32(2 * round), withImmediate: true)
          try host.expectBlocks(data, at: 3, tag: UInt32(2 * round + 1))
        }
      },
      writing("buffers-come-back", ["MS-6"], "Every buffer comes back, however often it is filled.")
      { host in
        let data = host.pattern(byteCount: Int(host.answer!.blockByteCount), 3)
        let count = 3 * host.opened!.bufferCount
        for round in 0..<count { try host.writeBlocks(data, at: 0, tag: round) }
        try host.wait("that all buffers come back", .seconds(4)) {
          host.filled.count <= 1
        }
      },
      writing(
        "write-flush-durable", ["IO-30"], "Flush, and a write with force unit access, succeed."
      ) { host in
        let data = host.pattern(byteCount: Int(host.answer!.blockByteCount), 9)
        var command = host.command(BlockOpcode.write, tag: 1, count: 1)
        command.flags = 1
        command.dataByteCount = UInt32(data.count)
        try host.send(command, data: data)
        try host.expectStatus(BlockStatus.success, of: 1, "a write with force unit access")
        try host.expectBlocks(data, at: 0, tag: 2)
      },
      writing(
        "compare", ["IO-30", "IO-31", "IO-34"],
        "Compare succeeds where blocks are equal, and fails where not."
      ) { host in
        var data = host.pattern(byteCount: Int(host.answer!.blockByteCount), 21)
        try host.writeBlocks(data, at: 2, tag: 1)
        var command = host.command(BlockOpcode.compare, tag: 2, block: 2, count: 1)
        command.dataByteCount = UInt32(data.count)
        try host.send(command, data: data)
        try host.expectStatus(BlockStatus.success, of: 2, "compare with equal blocks")
        data[data.count - 1] ^= 1
        command.tag = 3
        try host.send(command, data: data)
        try host.expectStatus(BlockStatus.compareFailure, of: 3, "compare with other blocks")
      },
      writing("write-zeroes", ["IO-30"], "Blocks that zeroes were written to read as zeroes.") {
        host in
        let size = Int(host.answer!.blockByteCount)
        try host.writeBlocks(host.pattern(byteCount: 2 * size, 7), at: 4, tag: 1)
        try host.send(host.command(BlockOpcode.writeZeroes, tag: 2, block: 4, count: 2))
        try host.expectStatus(BlockStatus.success, of: 2, "write zeroes")
        try host.expectBlocks([UInt8](repeating: 0, count: 2 * size), at: 4, tag: 3)
      },
      writing("deallocate", ["IO-30"], "Blocks that were deallocated can be read.") { host in
        try host.send(host.command(BlockOpcode.deallocate, tag: 1, block: 4, count: 1))
        try host.expectStatus(BlockStatus.success, of: 1, "deallocate")
        let region = try host.line.allocate(byteCount: 65536)
        let key = try host.line.grantWrites(to: region)
        if case .end(let words) = try host.readBlocks(1, at: 4, tag: 2, into: region, key: key) {
          throw Finding("expected a read of deallocated blocks, got the end: \(words)")
        }
      },
      writing(
        "uncorrectable", ["IO-30", "IO-34", "IO-35"],
        "A block marked uncorrectable fails reads; those ahead of it are pushed and told."
      ) { host in
        let size = Int(host.answer!.blockByteCount)
        let data = host.pattern(byteCount: 2 * size, 77)
        try host.writeBlocks(data, at: 6, tag: 1)
        try host.send(host.command(BlockOpcode.writeUncorrectable, tag: 2, block: 7, count: 1))
        guard case .response(let marked) = try host.outcome(of: 2), marked.status == 0 else {
          throw NotApplicable("the volume does not mark blocks")
        }
        let region = try host.line.allocate(byteCount: max(4096, 2 * size))
        let key = try host.line.grantWrites(to: region)
        guard
          case .response(let response) = try host.readBlocks(
            2, at: 6, tag: 3, into: region, key: key)
        else { throw Finding("expected a response to a read of a bad block") }
        try expect(
          response.status == BlockStatus.mediaReadError, "expected mediaReadError, got \(response)")
        let told = Int(response.transferredByteCount)
        try expect(
          told == size, "IO-35: expected \(size) bytes ahead of the bad block, got \(told)")
        let found = unsafe [UInt8](region.bytes[..<told])
        try expect(
          found == Array(data[..<told]), "IO-35: expected the bytes ahead of the bad block")
        try host.writeBlocks(data, at: 6, tag: 4)
        try host.expectBlocks(data, at: 6, tag: 5)
      },
      status("opcode-unknown", ["IO-33"], "an unknown opcode", BlockStatus.unsupported) { host in
        host.command(0x55, tag: 1)
      },
      status("command-flags", ["IO-5", "IO-33"], "an unknown flag", BlockStatus.invalidField) {
        host in
        var command = host.command(BlockOpcode.flush, tag: 1)
        command.flags = 0x80
        return command
      },
      status(
        "command-reserved", ["IO-5", "IO-33"], "a reserved byte that is not 0",
        BlockStatus.invalidField
      ) { host in
        var command = host.command(BlockOpcode.flush, tag: 1)
        command.lastReserved = 1
        return command
      },
      status("write-without-data", ["IO-31"], "a write without data", BlockStatus.invalidField) {
        host in
        var command = host.command(BlockOpcode.write, tag: 1, count: 1)
        command.dataByteCount = host.answer!.blockByteCount
        return command
      },
      status(
        "read-beyond", ["IO-33"], "a read of blocks behind the last", BlockStatus.lbaOutOfRange
      ) { host in
        var command = host.command(
          BlockOpcode.read, tag: 1, block: host.answer!.blockCount, count: 1)
        command.dataByteCount = host.answer!.blockByteCount
        return command
      },
      status("read-wrapping", ["IO-33"], "a range that wraps", BlockStatus.lbaOutOfRange) { host in
        var command = host.command(BlockOpcode.read, tag: 1, block: .max, count: 2)
        command.dataByteCount = 2 * host.answer!.blockByteCount
        return command
      },
      status(
        "read-byte-count", ["IO-33"], "a byte count that is not that of its blocks",
        BlockStatus.invalidField
      ) { host in
        var command = host.command(BlockOpcode.read, tag: 1, count: 2)
        command.dataByteCount = host.answer!.blockByteCount
        return command
      },
      status(
        "flush-blocks", ["IO-33"], "a flush that names blocks", BlockStatus.invalidField
      ) { host in
        host.command(BlockOpcode.flush, tag: 1, count: 1)
      },
      status(
        "flush-bytes", ["IO-33"], "a flush with a byte count", BlockStatus.invalidField
      ) { host in
        var command = host.command(BlockOpcode.flush, tag: 1)
        command.dataByteCount = host.answer!.blockByteCount
        return command
      },
      status("read-nothing", ["IO-33"], "a read of no blocks", BlockStatus.invalidField) { host in
        host.command(BlockOpcode.read, tag: 1)
      },
      status(
        "force-elsewhere", ["IO-33"], "force unit access on a flush", BlockStatus.invalidField
      ) { host in
        var command = host.command(BlockOpcode.flush, tag: 1)
        command.flags = 1
        return command
      },
      status(
        "zeroes-with-bytes", ["IO-33"], "write zeroes with a byte count", BlockStatus.invalidField,
        changesBlocks: true
      ) { host in
        var command = host.command(BlockOpcode.writeZeroes, tag: 1, count: 1)
        command.dataByteCount = host.answer!.blockByteCount
        return command
      },
      status(
        "read-too-much", ["IO-15", "IO-33"], "a read of more bytes than the unit transfers",
        BlockStatus.invalidField
      ) { host in
        let answer = host.answer!
        let count = answer.maximumTransferByteCount / answer.blockByteCount + 1
        var command = host.command(BlockOpcode.read, tag: 1, count: count)
        command.dataByteCount = count * answer.blockByteCount
        return command
      },
      ConformanceCase(
        "command-short", ["IO-33"], "A command of another length than 64 bytes is no command."
      ) { bench in
        let host = try bench.openHost()
        try host.send(
          kind: BlockKind.command, tag: 1,
          Array(host.command(BlockOpcode.flush, tag: 1).bytes[..<60]))
        try host.wait("invalidField or the end") {
          host.line.end != nil || host.messages.contains { $0.kind == BlockKind.response }
        }
        if let message = host.takeMessage({ $0.kind == BlockKind.response }) {
          try expect(
            ResponseRecord(message.body)?.status == BlockStatus.invalidField,
            "expected invalidField, got \(message)")
        }
      },
      ConformanceCase(
        "transfer-of-flush", ["IO-31"],
        "A command without data that comes as a transfer is invalid."
      ) { bench in
        let host = try bench.openHost()
        try host.send(host.command(BlockOpcode.flush, tag: 1), data: [1, 2, 3, 4, 5, 6, 7, 8])
        try host.expectStatus(BlockStatus.invalidField, of: 1, "a flush that comes as a transfer")
        try host.expectAlive()
      },
      ConformanceCase(
        "read-bad-key", ["IO-32"],
        "A read to a key that does not allow it moves no byte and is no success."
      ) { bench in
        let host = try bench.openHost()
        let region = try host.line.allocate(byteCount: 65536)
        let key = try host.line.grantWrites(to: region)
        host.line.revoke(key)
        if case .push = try host.readBlocks(1, at: 0, tag: 1, into: region, key: key) {
          throw Finding("expected no success of a read to a key that was revoked")
        }
        let touched = unsafe region.bytes.contains { $0 != 0 }
        try expect(!touched, "expected no byte behind a key that was revoked")
      },
    ]

  private static func ending(
    _ id: String, _ clauses: [String], _ what: String,
    _ send: @escaping @Sendable (HostEnd) throws -> Void
  ) -> ConformanceCase {
    ConformanceCase(id, clauses, "On an open channel \(what) ends it.") { bench in
      let host = try bench.openHost()
      try send(host)
      try host.expectEnd(after: what)
    }
  }

  private static func writing(
    _ id: String, _ clauses: [String], _ title: String,
    _ body: @escaping @Sendable (HostEnd) throws -> Void
  ) -> ConformanceCase {
    ConformanceCase(id, clauses, title) { bench in
      try bench.needsWriting()
      try body(bench.openHost())
    }
  }

  private static func status(
    _ id: String, _ clauses: [String], _ what: String, _ status: UInt16,
    changesBlocks: Bool = false, _ command: @escaping @Sendable (HostEnd) -> CommandRecord
  ) -> ConformanceCase {
    ConformanceCase(id, clauses, "A command with \(what) is answered with its status.") { bench in
      let host = try bench.openHost()
      let command = command(host)
      try host.send(command)
      // Who may not write is told so first.
      let isReadOnly = changesBlocks && !bench.target.mayWrite
      try host.expectStatus(
        isReadOnly ? BlockStatus.readOnly : status, of: command.tag,
        isReadOnly ? "\(what) from a read-only host" : what)
      try host.expectAlive()
    }
  }
}

extension HostEnd {
  /// Bytes that are others at each place, and for each seed.
  func pattern(byteCount: Int, _ seed: UInt8) -> [UInt8] {
    (0..<byteCount).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ $0 >> 8) ^ seed }
  }
}
