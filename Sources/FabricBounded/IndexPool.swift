/// The free ones of a fixed number of slots: last in, first out, so that what is taken is likely
/// in the cache. Confined to one thread at a time.
@safe
public final class IndexPool {
  /// The count of the free ones, and behind it those. Both behind one pointer: another module's use
  /// of a stored property is checked at run time, and memory of their own would be one line more of
  /// the cache.
  @usableFromInline let block: UnsafeMutablePointer<UInt32>
  public let capacity: Int

  /// All of `0..<capacity` are free; the lowest is taken first.
  public init(capacity: Int) {
    unsafe block = .allocate(capacity: capacity + 1)
    unsafe block.initialize(to: UInt32(capacity))
    self.capacity = capacity
    for place in 0..<capacity {
      unsafe (block + 1 + place).initialize(to: UInt32(capacity - 1 - place))
    }
  }

  deinit { unsafe block.deallocate() }

  /// How many are free.
  @inlinable public var count: Int { unsafe Int(block[0]) }

  /// Takes a free slot; nil when there is none.
  @inlinable
  public func take() -> Int? {
    let count = unsafe block[0]
    if count == 0 { return nil }
    unsafe block[0] = count &- 1
    return unsafe Int(block[Int(count)])
  }

  /// Gives a taken slot back. Traps when more come back than were taken.
  @inlinable
  public func give(_ index: Int) {
    let count = unsafe block[0]
    precondition(index >= 0 && index < capacity && count < capacity, "not a taken slot")
    unsafe block[Int(count) &+ 1] = UInt32(truncatingIfNeeded: index)
    unsafe block[0] = count &+ 1
  }
}
