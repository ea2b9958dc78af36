import FabricWire

/// An input that is taken apart from its beginning; behind its end everything is 0.
struct FuzzInput {
  private var rest: ArraySlice<UInt8>

  init(_ bytes: [UInt8]) { rest = bytes[...] }

  var isEmpty: Bool { rest.isEmpty }

  mutating func byte() -> UInt8 { rest.popFirst() ?? 0 }

  /// A number below `bound`, which is at most 256.
  mutating func number(below bound: Int) -> Int { Int(byte()) % bound }

  mutating func bytes(_ count: Int) -> [UInt8] {
    let taken = Array(rest.prefix(count))
    rest = rest.dropFirst(count)
    return taken
  }

  /// All that is left.
  mutating func remainder() -> [UInt8] { bytes(rest.count) }
}

/// Ends the run when `condition` does not hold.
func require(_ condition: Bool, _ words: @autoclosure () -> String) {
  if !condition { fatalError(words()) }
}

/// Lends a copy of `bytes` that ends where its memory ends, so that the sanitizer sees a step over
/// it.
func withExactView<Value, Failure: Error>(
  _ bytes: some Collection<UInt8>, _ body: (WireView) throws(Failure) -> Value
) throws(Failure) -> Value {
  let count = bytes.count
  let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, count), alignment: 1)
  defer { unsafe copy.deallocate() }
  unsafe copy.copyBytes(from: bytes)
  return try body(unsafe WireView(copy.baseAddress!, byteCount: count))
}

/// What `write` puts into exactly `byteCount` bytes.
func written(_ byteCount: Int, _ write: (WireBuffer) -> Void) -> [UInt8] {
  let copy = UnsafeMutableRawBufferPointer.allocate(byteCount: max(1, byteCount), alignment: 1)
  defer { unsafe copy.deallocate() }
  unsafe copy.initializeMemory(as: UInt8.self, repeating: 0xA5)
  write(unsafe WireBuffer(copy.baseAddress!, byteCount: byteCount))
  return unsafe Array(copy.prefix(byteCount))
}
