import FabricIOProtocol
import FabricWire
import Testing

/// Calls `body` with a view of `bytes`.
func withView<Value>(_ bytes: [UInt8], _ body: (WireView) throws -> Value) rethrows -> Value {
  var copy = bytes
  copy.append(0)
  return try unsafe copy.withUnsafeBytes { raw in
    try body(unsafe WireView(raw.baseAddress!, byteCount: bytes.count))
  }
}

/// What `encode` writes to `byteCount` bytes of noise.
func encoded(_ byteCount: Int, _ encode: (WireBuffer) -> Void) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xA5, count: byteCount)
  unsafe bytes.withUnsafeMutableBytes { raw in encode(unsafe WireBuffer(raw)) }
  return bytes
}

/// Every change of a byte to a value that it cannot have is refused, and so is every other length.
func checkRefusals(
  of bytes: [UInt8], _ wrong: [(offset: Int, value: UInt8)],
  _ decode: (WireView) throws -> Void
) throws {
  for count in 0..<bytes.count {
    #expect(throws: ProtocolFault.self) { try withView(Array(bytes.prefix(count)), decode) }
  }
  #expect(throws: ProtocolFault.self) { try withView(bytes + [0], decode) }
  for (offset, value) in wrong {
    var changed = bytes
    changed[offset] = value
    #expect(throws: ProtocolFault.self) { try withView(changed, decode) }
  }
}
