/// What messages of the block protocol say, in words: for whoever reads a finding.
extension MessageRecord {
  /// Of the user's messages; nil where the kind is none of the protocol's, or the record is cut short.
  var blockWords: String? {
    let payload = bufferCount == 1 ? Array(body.dropFirst(8)) : body
    switch kind {
    case BlockKind.command: return CommandRecord(payload).map { "command, \($0)" }
    case BlockKind.response: return ResponseRecord(payload).map { "response, \($0)" }
    case BlockKind.ready: return "ready"
    case BlockKind.volumeQuery:
      return "volume query behind \"\(payload.text(at: 0, byteCount: payload.count))\""
    case BlockKind.volumeEntry: return payload.first == 0 ? "no volume left" : "volume entry"
    case BlockKind.addressQuery: return "address query"
    case BlockKind.addressEntry: return payload.first == 0 ? "no such address" : "address entry"
    case BlockKind.fence: return Self.fenceWords(payload).map { "fence of \($0)" }
    case BlockKind.fenced: return Self.fenceWords(payload).map { "fenced, \($0)" }
    case BlockKind.pathState: return payload.first.map { "path state \($0)" }
    case BlockKind.controlCall:
      guard payload.count >= 8 else { return nil }
      return "control call, code \(payload.number(UInt32.self, at: 0))"
    case BlockKind.controlAnswer:
      guard payload.count >= 12 else { return nil }
      return "control answer, errno \(payload.number(UInt32.self, at: 0)), result "
        + "\(Int32(bitPattern: payload.number(UInt32.self, at: 4)))"
    default: return nil
    }
  }

  private static func fenceWords(_ payload: [UInt8]) -> String? {
    guard payload.count >= 8 else { return nil }
    return "epoch \(payload.number(UInt32.self, at: 0)), number \(payload[4]), \(payload[5]) tags"
  }
}

extension CommandRecord: CustomStringConvertible {
  private static let names: [UInt8: String] = [
    BlockOpcode.flush: "flush", BlockOpcode.write: "write", BlockOpcode.read: "read",
    BlockOpcode.writeUncorrectable: "write uncorrectable", BlockOpcode.compare: "compare",
    BlockOpcode.writeZeroes: "write zeroes", BlockOpcode.deallocate: "deallocate",
  ]

  var description: String {
    var words = Self.names[opcode] ?? "opcode \(opcode)"
    words += " of tag \(tag), \(blockCount) blocks from \(firstBlock) on, \(dataByteCount) bytes"
    if address != 0 || key != 0 {
      words += ", address 0x\(String(address, radix: 16)), key 0x\(String(key, radix: 16))"
    }
    if flags != 0 { words += ", flags \(flags)" }
    if reserved != 0 || lastReserved != 0 { words += ", reserved bytes that are not 0" }
    return words
  }
}

extension ResponseRecord: CustomStringConvertible {
  var description: String {
    var words =
      "\(BlockStatus.words(for: status)), tag \(tag), \(transferredByteCount) bytes transferred"
    if firstReserved != 0 || lastReserved != 0 { words += ", reserved bytes that are not 0" }
    return words
  }
}

extension BlockStatus {
  private static let names: [UInt16: String] = [
    0: "success", 1: "unsupported", 2: "invalidField", 6: "internalError", 7: "aborted",
    0x80: "lbaOutOfRange", 0x81: "capacityExceeded", 0x182: "readOnly", 0x280: "mediaWriteError",
    0x281: "mediaReadError", 0x285: "compareFailure", 0x7C0: "flushFailed",
  ]

  /// As the table of IO-34 calls it, and its number.
  static func words(for status: UInt16) -> String {
    "\(names[status] ?? "a status of no name") (0x\(String(status, radix: 16)))"
  }
}

extension HostGreeting: CustomStringConvertible {
  var description: String {
    "host \"\(host)\" for \(volume.isEmpty ? "discovery" : "volume \"\(volume)\""), version "
      + "\(version), access \(access), epoch \(epoch), number \(number), depth \(depth)"
  }
}

extension UnitGreeting: CustomStringConvertible {
  var description: String {
    "unit \"\(name)\", version \(version), access \(access), \(blockCount) blocks of "
      + "\(blockByteCount) bytes, transfers of \(maximumTransferByteCount), depth \(depth), path "
      + "state \(pathState)"
  }
}
