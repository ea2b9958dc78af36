import FabricWire

/// Builds a record byte by byte, little-endian.
struct NICWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func append(_ name: String) { bytes.append(contentsOf: name.utf8) }
  mutating func append(_ address: MACAddress) { bytes.append(contentsOf: address.bytes) }
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

extension Array<UInt8> {
  /// Lends the bytes as a view.
  func withNICView<Value>(
    _ body: (WireView) throws(NICFault) -> Value
  ) throws(NICFault) -> Value {
    // An empty array may have no address; a view needs one.
    var copy = self
    copy.append(0)
    let count = self.count
    let result = unsafe copy.withUnsafeBytes { bytes -> Result<Value, NICFault> in
      do throws(NICFault) {
        return .success(try body(unsafe WireView(bytes.baseAddress!, byteCount: count)))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
