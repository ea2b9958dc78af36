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
