import FabricBounded
import FabricStorage
import FabricWire

/// A message that has been delivered, on its way to what it asks for.
struct Request {
  let frame: WireView
  let attached: WireView?
  let function: I2O.Function
  let table: FixedTable<ScatterElement>
  let first: Int

  func translate(_ shape: DeviceShape?) throws(MessageFault) -> Translation {
    if let isOfProcessor = function.isOfProcessor, isOfProcessor != (shape == nil) {
      throw MessageFault(.inappropriateFunction, at: 7)
    }
    guard frame.byteCount >= function.fixedByteCount else {
      throw MessageFault(.messageTooSmall, at: 2)
    }
    if function.listOffset == 0, function != .nop, frame.byteCount > function.fixedByteCount {
      throw MessageFault(.messageTooLarge, at: 2)
    }
    // Data comes with lists alone, whose pieces may lie there. (IT-15)
    if attached != nil, function.listOffset == 0 { throw MessageFault(.invalidParameter, at: 0) }
    switch function {
    case .nop: return .nothing
    case .abort: return .abort(try abort())
    case .parametersGet: return try parameters()
    case .blockRead, .blockWrite:
      guard let shape else { throw MessageFault(.inappropriateFunction, at: 7) }
      return .transfer(try transfer(shape))
    case .cacheFlush:
      guard frame.uint16(at: 16) & I2O.WriteFlags.progressReport == 0, frame.uint8(at: 19) == 0
      else { throw MessageFault(.invalidParameter, at: 16) }
      return .flush
    case .statusGet: return try status()
    case .outboundInit:
      let summary = try list(.toHost)
      guard summary.byteCount == 4, summary.elementCount == 1, table[first].place == .host else {
        throw MessageFault(.invalidParameter, at: function.fixedByteCount)
      }
      return .outbound(frameWordCount: frame.uint16(at: 22), initCode: frame.uint8(at: 20))
    case .tableNotify:
      let summary = try list(.toHost)
      guard summary.byteCount > 0 else {
        throw MessageFault(.invalidParameter, at: function.fixedByteCount)
      }
      return .table(
        classIdentifier: frame.uint32(at: 16), knownIndicator: frame.uint32(at: 20),
        elementCount: summary.elementCount, room: summary.byteCount)
    }
  }

  private func list(
    _ purpose: ScatterListReader.Purpose
  ) throws(MessageFault) -> ScatterListReader.Summary {
    var reader = ScatterListReader(
      frame, from: function.fixedByteCount, attached: attached, purpose: purpose)
    return try reader.readAll(into: table, from: first)
  }

  // MARK: Blocks

  /// (IT-40 to IT-43)
  private func transfer(_ shape: DeviceShape) throws(MessageFault) -> BlockTransfer {
    let isWrite = function == .blockWrite
    let flags = frame.uint16(at: 16)
    guard flags & (I2O.WriteFlags.solo | I2O.WriteFlags.progressReport | 0xFF60) == 0 else {
      throw MessageFault(.invalidParameter, at: 16)
    }
    if isWrite, frame.uint8(at: 19) != 0 { throw MessageFault(.invalidParameter, at: 19) }
    let byteCount = frame.uint32(at: 20)
    let address = frame.uint64(at: 24)
    guard byteCount > 0, byteCount % shape.blockByteCount == 0 else {
      throw MessageFault(.invalidParameter, at: 20)
    }
    guard address % UInt64(shape.blockByteCount) == 0 else {
      throw MessageFault(.invalidParameter, at: 24)
    }
    let summary = try list(isWrite ? .fromHost : .toHost)
    // Before the medium is touched. (IT-41)
    guard summary.byteCount == UInt64(byteCount) else {
      throw MessageFault(.invalidParameter, at: 20)
    }
    let isDurable = flags & (I2O.WriteFlags.dontCache | I2O.WriteFlags.writeThrough) != 0
    return BlockTransfer(
      operation: isWrite ? .write : .read, flags: isWrite && isDurable ? .forceUnitAccess : [],
      block: address / UInt64(shape.blockByteCount),
      blockCount: byteCount / shape.blockByteCount, byteCount: byteCount,
      logicalByteAddress: address, elementCount: summary.elementCount,
      attachedOffset: isWrite ? contiguousOffset(summary.elementCount) : nil)
  }

  private func contiguousOffset(_ count: Int) -> UInt64? {
    var end = table[first].address
    for index in first..<first + count {
      guard table[index].address == end else { return nil }
      end += UInt64(table[index].byteCount)
    }
    return table[first].address
  }

  // MARK: Others

  /// (IT-60)
  private func abort() throws(MessageFault) -> AbortRequest {
    guard let kind = I2O.AbortKind(rawValue: frame.uint8(at: 18)), frame.uint16(at: 16) == 0 else {
      throw MessageFault(.invalidParameter, at: 16)
    }
    return AbortRequest(
      kind: kind, function: frame.uint8(at: 19), transactionContext: frame.uint32(at: 20))
  }

  /// Two buffers: the operations, in the frame, and where their results go. (IT-50)
  private func parameters() throws(MessageFault) -> Translation {
    guard frame.uint32(at: 16) == 0 else { throw MessageFault(.invalidParameter, at: 16) }
    var reader = ScatterListReader(
      frame, from: function.fixedByteCount, attached: attached, purpose: .toHost)
    guard case .immediate(let offset, let byteCount) = try reader.next() else {
      throw MessageFault(.invalidParameter, at: function.fixedByteCount)
    }
    let summary = try reader.readAll(into: table, from: first)
    guard summary.byteCount > 0 else {
      throw MessageFault(.missingParameter, at: function.fixedByteCount)
    }
    return .parameters(
      operationsOffset: offset, byteCount: byteCount, elementCount: summary.elementCount,
      room: summary.byteCount)
  }

  /// Has no contexts and no list, but an address. (IT-20)
  private func status() throws(MessageFault) -> Translation {
    guard frame.uint64(at: 8) | frame.uint64(at: 16) == 0 else {
      throw MessageFault(.invalidParameter, at: 8)
    }
    guard frame.uint32(at: 32) >= UInt32(StatusBlock.byteCount) else {
      throw MessageFault(.invalidParameter, at: 32)
    }
    let address = frame.uint64(at: 24)
    guard !address.addingReportingOverflow(UInt64(StatusBlock.byteCount)).overflow else {
      throw MessageFault(.invalidParameter, at: 24)
    }
    table[first] = ScatterElement(
      .host, address: address, byteCount: UInt32(StatusBlock.byteCount),
      handle: frame.uint32(at: 36))
    return .status
  }
}
