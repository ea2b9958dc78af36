import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricWire

/// Taking the stream apart: PDUs, and data to their places.
extension TCPQueue {
  func stream(_ stream: ServedStream, received bytes: WireView) -> Int {
    var offset = 0
    while phase != .ended, !stream.isResting, offset < bytes.byteCount {
      let rest = bytes.slice(offset, bytes.byteCount - offset)
      if skippedByteCount > 0 {
        let count = min(skippedByteCount, rest.byteCount)
        skippedByteCount -= count
        offset += count
        continue
      }
      do throws(FatalError) {
        let count = expectsDigest ? takeDigest(rest) : try takePDU(rest)
        guard count > 0 else { break }
        offset += count
      } catch {
        fail(error, about: rest)
        break
      }
      // What follows goes to its place first.
      if isPlacing { break }
    }
    return offset
  }

  /// Takes a PDU up to its data.
  ///
  /// - Returns: bytes consumed; 0: not all of it is there, or nothing can be taken now.
  private func takePDU(_ bytes: WireView) throws(FatalError) -> Int {
    guard bytes.byteCount >= PDU.commonByteCount else {
      stream.neededByteCount = PDU.commonByteCount
      return 0
    }
    let common = PDU.Common(bytes)
    let expected = try headerByteCount(of: common)
    guard Int(common.headerByteCount) == expected else {
      throw FatalError(
        .invalidHeaderField, information: 2,
        "expected a header of \(expected) bytes, got \(common.headerByteCount)")
    }
    // The host's last words have no digest. (NVMe/TCP 1.0, section 3.6.2.3)
    let isFarewell = common.kind == PDU.Kind.hostTerminate.rawValue
    let isProtected = usesHeaderDigest && phase != .initializing && !isFarewell
    let needed = expected + (isProtected ? PDU.digestByteCount : 0)
    guard common.byteCount >= UInt32(needed) else {
      throw FatalError(
        .invalidHeaderField, information: 4,
        "expected a PDU of \(needed) bytes or more, got \(common.byteCount)")
    }
    guard bytes.byteCount >= needed else {
      stream.neededByteCount = needed
      return 0
    }
    if isProtected { try checkHeader(bytes, byteCount: expected) }
    switch phase {
    case .initializing: return try initialize(bytes)
    case .connecting, .connected:
      switch common.kind {
      case PDU.Kind.command.rawValue: return try takeCommand(common, bytes)
      case PDU.Kind.hostData.rawValue: return try takeHostData(common, bytes)
      default:
        frontEnd.log("\(name): the host ended the connection: \(Self.hostReason(bytes))")
        end()
        return 0
      }
    case .ended: return 0
    }
  }

  /// What a PDU of that kind has for a header, if it may come now.
  private func headerByteCount(of common: PDU.Common) throws(FatalError) -> Int {
    switch (PDU.Kind(rawValue: common.kind), phase) {
    case (.initializeRequest, .initializing): return PDU.initializeByteCount
    case (.command, .connecting), (.command, .connected): return PDU.commandByteCount
    case (.hostData, .connecting), (.hostData, .connected): return PDU.dataByteCount
    case (.hostTerminate, .connecting), (.hostTerminate, .connected): return PDU.terminateByteCount
    case (.initializeRequest, _), (.command, _), (.hostData, _), (.hostTerminate, _):
      throw FatalError(.sequenceError, "a PDU of type \(common.kind) came at the wrong time")
    default:
      throw FatalError(
        .invalidHeaderField, information: 0, "expected a host's PDU, got type \(common.kind)")
    }
  }

  private func checkHeader(_ bytes: WireView, byteCount: Int) throws(FatalError) {
    var checksum = Checksum()
    unsafe checksum.add(bytes.slice(0, byteCount).rawBytes)
    let sent = bytes.uint32(at: byteCount)
    guard checksum.value == sent else {
      throw FatalError(.headerDigestError, information: sent, "a header's digest is wrong")
    }
  }

  private static func hostReason(_ bytes: WireView) -> String {
    let status = FatalError.Status(rawValue: bytes.uint16(at: 8))
    return status.map { "\($0)" } ?? "status \(bytes.uint16(at: 8))"
  }

  // MARK: Initialize

  private func initialize(_ bytes: WireView) throws(FatalError) -> Int {
    let request = PDU.Initialize(bytes)
    guard bytes.uint32(at: 4) == UInt32(PDU.initializeByteCount) else {
      throw FatalError(.invalidHeaderField, information: 4, "ICReq has a wrong length")
    }
    guard request.version == 0 else {
      throw FatalError(
        .unsupportedParameter, information: 8, "expected format 0, got \(request.version)")
    }
    guard request.alignment <= 31 else {
      throw FatalError(
        .invalidHeaderField, information: 10,
        "expected an alignment of 0 to 31, got \(request.alignment)")
    }
    var response = PDU.Initialize()
    response.usesHeaderDigest = request.usesHeaderDigest
    response.usesDataDigest = request.usesDataDigest
    response.limit = UInt32(Self.hostDataByteCount)
    response.encode(
      .initializeResponse, into: stream.header(byteCount: PDU.initializeByteCount))
    agree(
      headerDigest: request.usesHeaderDigest, dataDigest: request.usesDataDigest,
      hostAlignment: (Int(request.alignment) + 1) * 4)
    return PDU.initializeByteCount
  }

  // MARK: Commands

  /// Takes a capsule: its command, and up to its data.
  private func takeCommand(_ common: PDU.Common, _ bytes: WireView) throws(FatalError) -> Int {
    let headerEnd = PDU.commandByteCount + headerDigestByteCount
    let dataByteCount = try capsuleData(common, headerEnd: headerEnd)
    guard dataByteCount == 0 || bytes.byteCount >= Int(common.dataOffset) else {
      stream.neededByteCount = Int(common.dataOffset)
      return 0
    }
    guard let number = freeSlots.take() else {
      throw FatalError(.sequenceError, "more than the queue's \(depth) commands are under way")
    }
    slots[number] = CommandSlot(
      command: Command(bytes.slice(PDU.commonByteCount, Command.byteCount)))
    prepare(number, dataByteCount: dataByteCount)
    let isRefused = slots[number].status != .success
    guard dataByteCount == 0 || isRefused || takeBuffer(number, isOfCapsule: true) else {
      // The capsule is taken again, as a whole, when there is one.
      freeSlots.give(number)
      rest()
      return 0
    }
    countHead()
    if isRefused {
      skippedByteCount = Int(common.byteCount) - headerEnd
      finish(number, slots[number].status)
      return headerEnd
    }
    if dataByteCount == 0 {
      begin(number)
      return headerEnd
    }
    receive(number, byteCount: dataByteCount, isLast: true)
    return Int(common.dataOffset)
  }

  /// Bytes of data in a capsule.
  private func capsuleData(_ common: PDU.Common, headerEnd: Int) throws(FatalError) -> Int {
    if Int(common.byteCount) == headerEnd { return 0 }
    let offset = Int(common.dataOffset)
    guard offset >= headerEnd, offset.isMultiple(of: 4), offset <= Int(common.byteCount) else {
      throw FatalError(
        .invalidHeaderField, information: 3, "a capsule's data begins at \(offset)")
    }
    let count = Int(common.byteCount) - offset - dataDigestByteCount
    guard count > 0, count <= capsuleByteCount else {
      throw FatalError(
        .dataOutOfRange, information: 4,
        "expected at most \(capsuleByteCount) bytes of data in a capsule, got \(count)")
    }
    return count
  }

  /// Places the data that follow.
  private func receive(_ number: Int, byteCount: Int, isLast: Bool) {
    guard let buffer = slots[number].buffer else { preconditionFailure("no buffer") }
    receiving = number
    isLastPart = isLast
    placedAddress = buffer.address + UInt64(slots[number].receivedByteCount)
    placedByteCount = byteCount
    stream.place(byteCount: byteCount, at: placedAddress)
  }

  /// Takes an H2CData PDU up to its data.
  private func takeHostData(_ common: PDU.Common, _ bytes: WireView) throws(FatalError) -> Int {
    let transfer = PDU.Transfer(bytes)
    let number = Int(transfer.tag)
    guard number < slots.count, slots[number].isReceiving,
      slots[number].command.identifier == transfer.command
    else {
      throw FatalError(
        .invalidHeaderField, information: 10, "data came that was not asked for: \(transfer)")
    }
    let left = slots[number].io.byteCount - slots[number].receivedByteCount
    guard transfer.offset == slots[number].receivedByteCount, transfer.byteCount > 0,
      transfer.byteCount <= left
    else {
      throw FatalError(
        .dataOutOfRange, information: 12,
        "expected up to \(left) bytes from \(slots[number].receivedByteCount), got \(transfer)")
    }
    guard transfer.byteCount <= UInt32(Self.hostDataByteCount) else {
      throw FatalError(.limitExceeded, information: 16, "too much data in one PDU: \(transfer)")
    }
    let offset = Int(common.dataOffset)
    let headerEnd = PDU.dataByteCount + headerDigestByteCount
    guard offset >= headerEnd, offset.isMultiple(of: 4),
      Int(common.byteCount) == offset + Int(transfer.byteCount) + dataDigestByteCount
    else {
      throw FatalError(
        .invalidHeaderField, information: 4, "expected \(transfer) to fit its PDU's length")
    }
    guard bytes.byteCount >= offset else {
      stream.neededByteCount = offset
      return 0
    }
    let isLast = transfer.byteCount == left
    guard common.flags.contains(.last) == isLast else {
      throw FatalError(.invalidHeaderField, information: 1, "the last flag is wrong: \(transfer)")
    }
    receive(number, byteCount: Int(transfer.byteCount), isLast: isLast)
    return offset
  }

  func streamDidPlace(_ stream: ServedStream) {
    guard phase != .ended, receiving >= 0 else { return }
    slots[receiving].receivedByteCount += UInt32(placedByteCount)
    if usesDataDigest {
      expectsDigest = true
    } else {
      placedByteCount = 0
      partHasCome()
    }
  }

  /// Takes the digest of the data that were placed.
  private func takeDigest(_ bytes: WireView) -> Int {
    guard bytes.byteCount >= PDU.digestByteCount else {
      stream.neededByteCount = PDU.digestByteCount
      return 0
    }
    expectsDigest = false
    let sum = Self.checksum(placedAddress, placedByteCount)
    placedByteCount = 0
    // The command fails, the connection goes on. (Section 3.5.2)
    if sum != bytes.uint32(at: 0) { slots[receiving].status = .transientTransportError }
    partHasCome()
    return PDU.digestByteCount
  }

  private var isPlacing: Bool { placedByteCount > 0 && !expectsDigest }

  private func partHasCome() {
    let number = receiving
    receiving = -1
    guard isLastPart else { return }
    // A capsule's data was not asked for.
    if slots[number].isReceiving { dataHasCome(number) } else { carryOut(number) }
  }
}
