/// The free ones of a fixed number of slots: last in, first out, so that what is taken is likely
/// in the cache. Confined to one thread at a time.
@safe
public final class IndexPool {
  @usableFromInline let free: FixedTable<UInt32>
  @usableFromInline var freeCount: Int
  public let capacity: Int

  /// All of `0..<capacity` are free; the lowest is taken first.
  public init(capacity: Int) {
    free = FixedTable(repeating: 0, count: capacity)
    freeCount = capacity
    self.capacity = capacity
    for index in 0..<capacity { free[index] = UInt32(capacity - 1 - index) }
  }

  /// How many are free.
  @inlinable public var count: Int { freeCount }

  /// Takes a free slot; nil when there is none.
  @inlinable
  public func take() -> Int? {
    if freeCount == 0 { return nil }
    freeCount &-= 1
    return Int(free[freeCount])
  }

  /// Gives a taken slot back. Traps when more come back than were taken.
  @inlinable
  public func give(_ index: Int) {
    precondition(index >= 0 && index < capacity && freeCount < capacity, "not a taken slot")
    free[freeCount] = UInt32(index)
    freeCount &+= 1
  }
}
