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
