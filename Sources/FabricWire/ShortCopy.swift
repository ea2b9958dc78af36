/// Copies bytes that do not overlap; made for the lengths of messages, where a call of the C
/// library's costs as much as the copy.
@inlinable
@inline(__always)
@unsafe
public func copyShort(
  to target: UnsafeMutableRawPointer, from source: UnsafeRawPointer, byteCount: Int
) {
  guard byteCount >= 16 && byteCount <= 256 else {
    unsafe target.copyMemory(from: source, byteCount: byteCount)
    return
  }
  // The last 16 bytes may overlap those before them.
  let last = byteCount &- 16
  var offset = 0
  while offset < last {
    unsafe copySixteen(to: target + offset, from: source + offset)
    offset &+= 16
  }
  unsafe copySixteen(to: target + last, from: source + last)
}

@inlinable
@inline(__always)
@unsafe
func copySixteen(to target: UnsafeMutableRawPointer, from source: UnsafeRawPointer) {
  let bytes = unsafe source.loadUnaligned(as: SIMD16<UInt8>.self)
  unsafe target.storeBytes(of: bytes, as: SIMD16<UInt8>.self)
}
