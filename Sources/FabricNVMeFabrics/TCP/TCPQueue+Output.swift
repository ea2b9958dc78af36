import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricWire

/// PDUs for the host.
extension TCPQueue {
  /// A response capsule.
  func sendCompletion(_ number: Int, _ status: Status, result: UInt64) {
    guard phase != .ended else { return }
    let completion = Completion(
      slots[number].command.identifier, status, result: result, submissionHead: toldHead)
    header(.response, byteCount: PDU.responseByteCount, flags: []) { buffer in
      completion.encode(into: buffer.slice(PDU.commonByteCount, Completion.byteCount))
    }
  }

  /// Asks for all of a command's data.
  func askForData(_ number: Int) {
    let transfer = PDU.Transfer(
      command: slots[number].command.identifier, tag: UInt16(truncatingIfNeeded: number), offset: 0,
      byteCount: slots[number].io.byteCount)
    header(.readyToTransfer, byteCount: PDU.dataByteCount, flags: []) { transfer.encode(into: $0) }
  }

  /// Queues a command's data by reference, in one PDU.
  func sendData(_ number: Int, address: UInt64, byteCount: Int, token: UInt64?) {
    dataHeader(number, byteCount: byteCount, isEnd: endsWithData)
    stream.data(address: address, byteCount: byteCount, token: token)
    if usesDataDigest {
      stream.header(byteCount: PDU.digestByteCount).set(Self.checksum(address, byteCount), at: 0)
    }
  }

  /// Queues a copy of a command's data.
  func sendCopy(_ number: Int, of bytes: [UInt8]) {
    dataHeader(number, byteCount: bytes.count, isEnd: false)
    stream.header(byteCount: bytes.count).copy(bytes, at: 0)
    if usesDataDigest {
      stream.header(byteCount: PDU.digestByteCount).set(Checksum.of(bytes), at: 0)
    }
  }

  /// Whether a read's data may be its end as well. (NVMe/TCP 1.0, section 3.6.2.6)
  var endsWithData: Bool { isSilentOnHead && !isAdmin }

  private func dataHeader(_ number: Int, byteCount: Int, isEnd: Bool) {
    let transfer = PDU.Transfer(
      command: slots[number].command.identifier, tag: 0, offset: 0, byteCount: UInt32(byteCount))
    header(
      .controllerData, byteCount: PDU.dataByteCount, flags: isEnd ? .lastAndSuccess : .last,
      dataByteCount: byteCount
    ) { transfer.encode(into: $0) }
  }

  /// Queues a PDU's header with its digest, and, for data, what lies between it and them.
  @inline(__always)
  private func header(
    _ kind: PDU.Kind, byteCount: Int, flags: PDU.Flags, dataByteCount: Int = 0,
    _ fill: (WireBuffer) -> Void
  ) {
    let end = byteCount &+ headerDigestByteCount
    let dataOffset =
      dataByteCount == 0 ? 0 : (end &+ hostAlignment &- 1) / hostAlignment &* hostAlignment
    let length = max(end, dataOffset)
    var flags = flags
    if usesHeaderDigest { flags.insert(.headerDigest) }
    if dataByteCount > 0, usesDataDigest { flags.insert(.dataDigest) }
    let buffer = stream.header(byteCount: length)
    if length > end { buffer.slice(end, length &- end).clear() }
    PDU.Common(
      kind, flags: flags, headerByteCount: byteCount, dataOffset: dataOffset,
      byteCount: length &+ dataByteCount &+ (dataByteCount > 0 ? dataDigestByteCount : 0)
    ).encode(into: buffer)
    fill(buffer)
    if usesHeaderDigest {
      var checksum = Checksum()
      unsafe checksum.add(buffer.view.slice(0, byteCount).rawBytes)
      buffer.set(checksum.value, at: byteCount)
    }
  }

  /// Of bytes in memory.
  static func checksum(_ address: UInt64, _ byteCount: Int) -> UInt32 {
    var checksum = Checksum()
    unsafe checksum.add(
      UnsafeRawBufferPointer(
        start: UnsafeRawPointer(bitPattern: UInt(address)), count: byteCount))
    return checksum.value
  }
}
