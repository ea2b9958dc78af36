/// A bounds-checked, read-only view of bytes on the wire; every integer is little-endian.
///
/// The maker vouches that the bytes live as long as the view. Reading outside traps, so a length
/// from a peer must be compared with `byteCount` first.
@safe
public struct WireView: @unchecked Sendable {
  @usableFromInline let base: UnsafeRawPointer
  public let byteCount: Int

  @inlinable
  @unsafe
  public init(_ base: UnsafeRawPointer, byteCount: Int) {
    unsafe self.base = base
    self.byteCount = byteCount
  }

  @inlinable
  @unsafe
  public init(_ bytes: UnsafeRawBufferPointer) {
    unsafe self.init(bytes.baseAddress!, byteCount: bytes.count)
  }

  @inlinable
  func load<Value: FixedWidthInteger & BitwiseCopyable>(_ offset: Int, as type: Value.Type) -> Value
  {
    precondition(offset >= 0 && offset &+ MemoryLayout<Value>.size <= byteCount, "outside the view")
    return unsafe Value(littleEndian: base.loadUnaligned(fromByteOffset: offset, as: Value.self))
  }

  @inlinable public func uint8(at offset: Int) -> UInt8 { load(offset, as: UInt8.self) }
  @inlinable public func uint16(at offset: Int) -> UInt16 { load(offset, as: UInt16.self) }
  @inlinable public func uint32(at offset: Int) -> UInt32 { load(offset, as: UInt32.self) }
  @inlinable public func uint64(at offset: Int) -> UInt64 { load(offset, as: UInt64.self) }

  /// The `count` bytes from `offset`.
  @inlinable
  public func slice(_ offset: Int, _ count: Int) -> WireView {
    precondition(offset >= 0 && count >= 0 && offset &+ count <= byteCount, "outside the view")
    return unsafe WireView(base + offset, byteCount: count)
  }

  /// A copy of all bytes.
  public var array: [UInt8] { unsafe Array(rawBytes) }

  /// The bytes themselves.
  @inlinable
  @unsafe
  public var rawBytes: UnsafeRawBufferPointer {
    unsafe UnsafeRawBufferPointer(start: base, count: byteCount)
  }
}
