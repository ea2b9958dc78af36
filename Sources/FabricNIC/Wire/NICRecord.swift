import FabricWire

extension WireWriter {
  mutating func append(_ address: MACAddress) {
    for byte in address.bytes { append(byte) }
  }
}

extension WireView {
  /// A copy of the view's address at `offset`.
  func address(at offset: Int) -> MACAddress { MACAddress(slice(offset, 6).array) }

  /// A name of a record's, of the last bytes of it.
  func name(
    at offset: Int, byteCount count: Int, record: String, field: String
  ) throws(NICFault) -> String {
    guard (1...NICProtocol.maximumNameByteCount).contains(count), offset <= byteCount,
      count <= byteCount - offset,
      let name = String(validating: slice(offset, count).array, as: UTF8.self)
    else { throw .invalidName(record: record, field: field) }
    return name
  }

  /// Checks the mark and the version, which no release changes the place of.
  func checkStart(shortest: Int, record: String) throws(NICFault) {
    guard byteCount >= 6 else {
      throw .wrongByteCount(record: record, expected: shortest, found: byteCount)
    }
    guard uint32(at: 0) == NICProtocol.mark else { throw .foreignOpening(found: uint32(at: 0)) }
    guard uint16(at: 4) == NICProtocol.version else {
      throw .versionMismatch(found: uint16(at: 4))
    }
    guard byteCount >= shortest else {
      throw .wrongByteCount(record: record, expected: shortest, found: byteCount)
    }
  }
}
