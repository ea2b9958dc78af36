public import Synchronization

/// A 16-bit word at a fixed place in (possibly shared) memory, read and written atomically.
///
/// The maker vouches that the place stays mapped and aligned for as long as the word is used.
@safe
public struct SharedWord16: @unchecked Sendable {
  @usableFromInline let word: UnsafeMutablePointer<Atomic<UInt16>>

  @inlinable
  @unsafe
  public init(at place: UnsafeMutableRawPointer) {
    unsafe word = place.assumingMemoryBound(to: Atomic<UInt16>.self)
  }

  @inlinable public func load() -> UInt16 { unsafe word.pointee.load(ordering: .relaxed) }
  @inlinable public func loadAcquiring() -> UInt16 {
    unsafe word.pointee.load(ordering: .acquiring)
  }
  @inlinable public func store(_ value: UInt16) {
    unsafe word.pointee.store(value, ordering: .relaxed)
  }
  @inlinable public func storeReleasing(_ value: UInt16) {
    unsafe word.pointee.store(value, ordering: .releasing)
  }
}
