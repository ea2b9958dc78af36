public import Synchronization

/// A 32-bit word at a fixed place in (possibly shared) memory, read and written atomically.
///
/// The maker vouches that the place stays mapped and aligned for as long as the word is used.
@safe
public struct SharedWord32: @unchecked Sendable {
  @usableFromInline let word: UnsafeMutablePointer<Atomic<UInt32>>

  @inlinable
  @unsafe
  public init(at place: UnsafeMutableRawPointer) {
    unsafe word = place.assumingMemoryBound(to: Atomic<UInt32>.self)
  }

  @inlinable public func load() -> UInt32 { unsafe word.pointee.load(ordering: .relaxed) }
  @inlinable public func loadAcquiring() -> UInt32 {
    unsafe word.pointee.load(ordering: .acquiring)
  }
  @inlinable public func store(_ value: UInt32) {
    unsafe word.pointee.store(value, ordering: .relaxed)
  }
  @inlinable public func storeReleasing(_ value: UInt32) {
    unsafe word.pointee.store(value, ordering: .releasing)
  }
}

/// A 64-bit word at a fixed place in (possibly shared) memory, read and written atomically.
///
/// The maker vouches that the place stays mapped and aligned for as long as the word is used.
@safe
public struct SharedWord64: @unchecked Sendable {
  @usableFromInline let word: UnsafeMutablePointer<Atomic<UInt64>>

  @inlinable
  @unsafe
  public init(at place: UnsafeMutableRawPointer) {
    unsafe word = place.assumingMemoryBound(to: Atomic<UInt64>.self)
  }

  @inlinable public func load() -> UInt64 { unsafe word.pointee.load(ordering: .relaxed) }
  @inlinable public func loadAcquiring() -> UInt64 {
    unsafe word.pointee.load(ordering: .acquiring)
  }
  @inlinable public func store(_ value: UInt64) {
    unsafe word.pointee.store(value, ordering: .relaxed)
  }
  @inlinable public func storeReleasing(_ value: UInt64) {
    unsafe word.pointee.store(value, ordering: .releasing)
  }
}
