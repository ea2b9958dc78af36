/// The free ones of a fixed number of slots: last in, first out, so that what is taken is likely
/// in the cache. Confined to one thread at a time.
@safe
public final class IndexPool {
  /// How many are taken, then room for these, and behind it the free ones, the next one first: while few
  /// are taken, all in one line of the cache. Behind one pointer: another module's use of a stored
  /// property is checked at run time.
  @usableFromInline let block: UnsafeMutablePointer<UInt32>
  public let capacity: Int

  /// All of `0..<capacity` are free; the lowest is taken first.
  public init(capacity: Int) {
    unsafe block = .allocate(capacity: capacity + 1)
    unsafe block.initialize(to: 0)
    self.capacity = capacity
    for index in 0..<capacity { unsafe (block + 1 + index).initialize(to: UInt32(index)) }
  }

  deinit { unsafe block.deallocate() }

  /// How many are free.
  @inlinable public var count: Int { unsafe capacity &- Int(block[0]) }

  /// Takes a free slot; nil when there is none.
  @inlinable
  public func take() -> Int? {
    let taken = unsafe Int(block[0])
    if taken == capacity { return nil }
    unsafe block[0] &+= 1
    return unsafe Int(block[taken &+ 1])
  }

  /// Gives a taken slot back. Traps when more come back than were taken.
  @inlinable
  public func give(_ index: Int) {
    let taken = unsafe Int(block[0])
    precondition(index >= 0 && index < capacity && taken > 0, "not a taken slot")
    unsafe block[taken] = UInt32(truncatingIfNeeded: index)
    unsafe block[0] &-= 1
  }

  /// Has all of them free.
  public func reset() {
    unsafe block[0] = 0
    for index in 0..<capacity { unsafe block[1 + index] = UInt32(index) }
  }

  /// Where its memory begins, to be brought near. Unsafe: valid as long as the pool.
  @inlinable
  @unsafe
  public var address: UnsafeRawPointer { unsafe UnsafeRawPointer(block) }
}
