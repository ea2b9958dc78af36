package import FabricWire

// NBD's integers are big-endian.
extension WireView {
  package func big16(at offset: Int) -> UInt16 { uint16(at: offset).byteSwapped }
  package func big32(at offset: Int) -> UInt32 { uint32(at: offset).byteSwapped }
  package func big64(at offset: Int) -> UInt64 { uint64(at: offset).byteSwapped }

  /// The bytes as text; nil when they are not UTF-8.
  package func text(_ offset: Int, _ count: Int) -> String? {
    String(validating: slice(offset, count).array, as: UTF8.self)
  }
}

extension WireBuffer {
  package func setBig(_ value: UInt16, at offset: Int) { set(value.byteSwapped, at: offset) }
  package func setBig(_ value: UInt32, at offset: Int) { set(value.byteSwapped, at: offset) }
  package func setBig(_ value: UInt64, at offset: Int) { set(value.byteSwapped, at: offset) }
}

extension [UInt8] {
  package mutating func appendBig(_ value: some FixedWidthInteger & UnsignedInteger) {
    for shift in stride(from: value.bitWidth - 8, through: 0, by: -8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}
