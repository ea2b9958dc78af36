import FabricVerbs

/// The one message of rping's protocol: where a buffer is, and its key. 16 bytes, the numbers with
/// their high bytes first.
struct BufferName {
  static let byteCount = 16

  var address: UInt64
  var key: RemoteKey
  var byteCount: UInt32

  var bytes: [UInt8] {
    [UInt8](big: address) + [UInt8](big: key.rawValue) + [UInt8](big: byteCount)
  }

  init(address: UInt64, key: RemoteKey, byteCount: UInt32) {
    self.address = address
    self.key = key
    self.byteCount = byteCount
  }

  /// Nil when there are not 16 bytes.
  init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    address = bytes[0..<8].bigNumber
    key = RemoteKey(rawValue: UInt32(truncatingIfNeeded: bytes[8..<12].bigNumber))
    byteCount = UInt32(truncatingIfNeeded: bytes[12..<16].bigNumber)
  }
}

extension [UInt8] {
  fileprivate init(big number: some FixedWidthInteger) {
    self = stride(from: number.bitWidth - 8, through: 0, by: -8).map {
      UInt8(truncatingIfNeeded: number >> $0)
    }
  }
}

extension ArraySlice<UInt8> {
  fileprivate var bigNumber: UInt64 { reduce(0) { $0 << 8 | UInt64($1) } }
}
