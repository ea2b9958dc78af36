import CFabricLinux

/// Asks for the first `byteCount` bytes at `address` to be brought near. Any address will do: one
/// that is not readable has no effect.
public func prefetch(_ address: UInt64, byteCount: Int) {
  var offset = 0
  while offset < byteCount {
    unsafe fabric_prefetch(UnsafeRawPointer(bitPattern: UInt(address) &+ UInt(offset)))
    offset &+= 64
  }
}

/// Asks for the first `byteCount` bytes at `place` to be brought near.
public func prefetch(_ place: UnsafeRawPointer, byteCount: Int) {
  prefetch(UInt64(UInt(bitPattern: place)), byteCount: byteCount)
}
