import FabricVerbs

/// Commands of the block protocol, one after the other.
extension HostEnd {
  /// How a command ended.
  enum Outcome {
    case response(ResponseRecord)
    /// A push told its end: success and all bytes.
    case push
    /// The connection ended before.
    case end(String)
  }

  /// Waits for the end of the command `tag`.
  func outcome(of tag: UInt32, _ limit: Duration = .seconds(6)) throws -> Outcome {
    var outcome: Outcome?
    try wait("an end of command \(tag)", limit) {
      if let message = takeMessage({ $0.kind == BlockKind.response && $0.tag == tag }) {
        outcome = ResponseRecord(message.body).map { .response($0) }
      } else if takePush(tag) {
        outcome = .push
      } else if let end = line.end {
        outcome = .end(end)
      }
      return outcome != nil
    }
    if case .response(let response) = outcome! { try check(response, tag) }
    return outcome!
  }

  /// What every response has to be. (IO-22, IO-34)
  private func check(_ response: ResponseRecord, _ tag: UInt32) throws {
    try expect(
      response.tag == tag,
      "IO-34: expected 16 bytes of response with the tag \(tag), got \(response)")
    try expect(
      response.firstReserved == 0 && response.lastReserved == 0,
      "IO-5: expected zeroes in the response's reserved bytes, got \(response)")
    try expect(
      BlockStatus.all.contains(response.status),
      "IO-34: expected a status of the table, got \(response)")
  }

  /// Throws unless the command `tag` ends with `status`.
  func expectStatus(_ status: UInt16, of tag: UInt32, _ what: String) throws {
    let found: UInt16
    switch try outcome(of: tag) {
    case .response(let response): found = response.status
    case .push: found = BlockStatus.success
    case .end(let words):
      throw Finding("expected an answer to \(what), got the connection's end: \(words)")
    }
    try expect(
      found == status,
      "expected \(BlockStatus.words(for: status)) of \(what), got \(BlockStatus.words(for: found))"
    )
  }

  func command(_ opcode: UInt8, tag: UInt32, block: UInt64 = 0, count: UInt32 = 0) -> CommandRecord
  {
    var command = CommandRecord(opcode, tag: tag)
    command.firstBlock = block
    command.blockCount = count
    return command
  }

  func send(_ command: CommandRecord) throws {
    try send(kind: BlockKind.command, tag: command.tag, command.bytes)
  }

  /// Sends a command with data, in the form that the fabric has.
  func send(_ command: CommandRecord, data: [UInt8], withImmediate: Bool = false) throws {
    if withImmediate {
      try transferWithImmediate(
        kind: BlockKind.command, tag: command.tag, command.bytes, data: data)
    } else {
      try transfer(kind: BlockKind.command, tag: command.tag, command.bytes, data: data)
    }
  }

  /// Writes blocks, and throws unless that succeeds.
  func writeBlocks(_ data: [UInt8], at block: UInt64, tag: UInt32, withImmediate: Bool = false)
    throws
  {
    var command = command(
      BlockOpcode.write, tag: tag, block: block,
      count: UInt32(data.count) / answer!.blockByteCount)
    command.dataByteCount = UInt32(data.count)
    try send(command, data: data, withImmediate: withImmediate)
    try expectStatus(BlockStatus.success, of: tag, "a write")
  }

  /// Reads blocks to memory of this host's.
  func readBlocks(
    _ count: UInt32, at block: UInt64, tag: UInt32, into region: MemoryRegion, key: RemoteKey
  ) throws -> Outcome {
    var command = command(BlockOpcode.read, tag: tag, block: block, count: count)
    command.dataByteCount = count * answer!.blockByteCount
    command.address = region.address
    command.key = key.rawValue
    try send(command)
    return try outcome(of: tag)
  }

  /// Throws unless blocks hold `data`.
  func expectBlocks(_ data: [UInt8], at block: UInt64, tag: UInt32) throws {
    let region = try line.allocate(byteCount: data.count + 4096)
    let key = try line.grantWrites(to: region)
    defer { line.revoke(key) }
    let outcome = try readBlocks(
      UInt32(data.count) / answer!.blockByteCount, at: block, tag: tag, into: region, key: key)
    switch outcome {
    case .push: break
    case .response(let response):
      try expect(
        response.status == 0 && response.transferredByteCount == data.count,
        "IO-34: expected a read of \(data.count) bytes, got \(response)")
    case .end(let words):
      throw Finding("expected a read to end, got the connection's end: \(words)")
    }
    let isSpilt = unsafe region.bytes[data.count...].contains { $0 != 0 }
    try expect(!isSpilt, "IO-32: expected no byte behind the \(data.count) of the read, got some")
    let found = unsafe [UInt8](region.bytes[..<data.count])
    let differing = zip(found, data).enumerated().first { $0.element.0 != $0.element.1 }?.offset
    try expect(
      differing == nil,
      "IO-32: expected the bytes that were written, in place before the read's end, got others from byte \(differing ?? 0) on"
    )
  }
}
