import FabricWire

// iWARP's fields are big-endian.

extension WireView {
  @inline(__always)
  func bigUInt16(at offset: Int) -> UInt16 { uint16(at: offset).byteSwapped }
  @inline(__always)
  func bigUInt32(at offset: Int) -> UInt32 { uint32(at: offset).byteSwapped }
  @inline(__always)
  func bigUInt64(at offset: Int) -> UInt64 { uint64(at: offset).byteSwapped }
}

extension WireBuffer {
  @inline(__always)
  func setBig(_ value: UInt16, at offset: Int) { set(value.byteSwapped, at: offset) }
  @inline(__always)
  func setBig(_ value: UInt32, at offset: Int) { set(value.byteSwapped, at: offset) }
  @inline(__always)
  func setBig(_ value: UInt64, at offset: Int) { set(value.byteSwapped, at: offset) }
}
