import FabricWire

/// Calls `body` with a view of `bytes`.
func withView<Value, Failure: Error>(
  _ bytes: [UInt8], _ body: (WireView) throws(Failure) -> Value
) throws(Failure) -> Value {
  let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: bytes.count + 1, alignment: 8)
  defer { unsafe copy.deallocate() }
  unsafe copy.copyBytes(from: bytes)
  return try body(unsafe WireView(copy.baseAddress!, byteCount: bytes.count))
}

/// What `write` puts into `byteCount` bytes of noise.
func written(_ byteCount: Int, _ write: (WireBuffer) -> Void) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xA5, count: byteCount)
  unsafe bytes.withUnsafeMutableBytes { raw in write(unsafe WireBuffer(raw)) }
  return bytes
}
