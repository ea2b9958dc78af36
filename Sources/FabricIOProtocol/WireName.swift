import FabricWire

/// A name as it is written in openings and entries: its length elsewhere, its bytes here.
enum WireName {
  /// Reads `byteCount` bytes of UTF-8 at `offset`.
  ///
  /// - Throws: `.invalidName` when they are not inside the view, too many or not UTF-8.
  static func decode(
    _ view: WireView, at offset: Int, byteCount: Int, record: String, field: String
  ) throws(ProtocolFault) -> String {
    guard byteCount <= IOProtocol.maximumNameByteCount, offset <= view.byteCount,
      byteCount <= view.byteCount - offset,
      let name = String(validating: view.slice(offset, byteCount).array, as: UTF8.self)
    else { throw .invalidName(record: record, field: field) }
    return name
  }

  /// Whether a name may be sent: neither empty nor too long.
  static func isValid(_ name: String) -> Bool {
    (1...IOProtocol.maximumNameByteCount).contains(name.utf8.count)
  }
}

/// Builds a record byte by byte, little-endian.
struct WireWriter {
  private(set) var bytes: [UInt8] = []

  mutating func append(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      bytes.append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }

  mutating func append(_ name: String) { bytes.append(contentsOf: name.utf8) }
}

extension Array<UInt8> {
  /// Lends the bytes as a view.
  func withWireView<Value>(
    _ body: (WireView) throws(ProtocolFault) -> Value
  ) throws(ProtocolFault) -> Value {
    // An empty array may have no address; a view needs one.
    var copy = self
    copy.append(0)
    let count = self.count
    let result = unsafe copy.withUnsafeBytes { bytes -> Result<Value, ProtocolFault> in
      do throws(ProtocolFault) {
        return .success(try body(unsafe WireView(bytes.baseAddress!, byteCount: count)))
      } catch {
        return .failure(error)
      }
    }
    return try result.get()
  }
}
