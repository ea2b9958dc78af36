/// A bounds-checked, writable view of bytes on the wire; every integer is little-endian.
///
/// The maker vouches that the bytes live as long as the buffer. Access outside traps.
@safe
public struct WireBuffer: @unchecked Sendable {
  @usableFromInline let base: UnsafeMutableRawPointer
  public let byteCount: Int

  @inlinable
  @unsafe
  public init(_ base: UnsafeMutableRawPointer, byteCount: Int) {
    unsafe self.base = base
    self.byteCount = byteCount
  }

  @inlinable
  @unsafe
  public init(_ bytes: UnsafeMutableRawBufferPointer) {
    unsafe self.init(bytes.baseAddress!, byteCount: bytes.count)
  }

  @inlinable
  func store<Value: FixedWidthInteger & BitwiseCopyable>(_ value: Value, _ offset: Int) {
    precondition(
      offset >= 0 && offset &+ MemoryLayout<Value>.size <= byteCount, "outside the buffer")
    unsafe base.storeBytes(of: value.littleEndian, toByteOffset: offset, as: Value.self)
  }

  @inlinable public func set(_ value: UInt8, at offset: Int) { store(value, offset) }
  @inlinable public func set(_ value: UInt16, at offset: Int) { store(value, offset) }
  @inlinable public func set(_ value: UInt32, at offset: Int) { store(value, offset) }
  @inlinable public func set(_ value: UInt64, at offset: Int) { store(value, offset) }

  /// Copies `bytes` to `offset`.
  @inlinable
  public func copy(_ bytes: WireView, at offset: Int) {
    precondition(offset >= 0 && offset &+ bytes.byteCount <= byteCount, "outside the buffer")
    unsafe copyShort(to: base + offset, from: bytes.base, byteCount: bytes.byteCount)
  }

  /// Copies `bytes` to `offset`.
  public func copy(_ bytes: [UInt8], at offset: Int) {
    precondition(offset >= 0 && offset &+ bytes.count <= byteCount, "outside the buffer")
    unsafe UnsafeMutableRawBufferPointer(start: base + offset, count: bytes.count)
      .copyBytes(from: bytes)
  }

  /// The `count` bytes from `offset`.
  @inlinable
  public func slice(_ offset: Int, _ count: Int) -> WireBuffer {
    precondition(offset >= 0 && count >= 0 && offset &+ count <= byteCount, "outside the buffer")
    return unsafe WireBuffer(base + offset, byteCount: count)
  }

  /// Sets every byte to zero.
  @inlinable
  public func clear() {
    unsafe base.initializeMemory(as: UInt8.self, repeating: 0, count: byteCount)
  }

  /// The same bytes, read-only.
  @inlinable
  public var view: WireView { unsafe WireView(UnsafeRawPointer(base), byteCount: byteCount) }
}
