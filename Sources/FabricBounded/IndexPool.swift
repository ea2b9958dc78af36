/// The free ones of a fixed number of slots: last in, first out, so that what is taken is likely
/// in the cache. Confined to one thread at a time.
@safe
public final class IndexPool {
  @usableFromInline let free: FixedTable<UInt32>
  /// Behind a pointer: another module's use of a stored property is checked at run time.
  @usableFromInline let freeCount: UnsafeMutablePointer<Int>
  public let capacity: Int

  /// All of `0..<capacity` are free; the lowest is taken first.
  public init(capacity: Int) {
    free = FixedTable(repeating: 0, count: capacity)
    unsafe freeCount = .allocate(capacity: 1)
    unsafe freeCount.initialize(to: capacity)
    self.capacity = capacity
    for index in 0..<capacity { free[index] = UInt32(capacity - 1 - index) }
  }

  deinit { unsafe freeCount.deallocate() }

  /// How many are free.
  @inlinable public var count: Int { unsafe freeCount.pointee }

  /// Takes a free slot; nil when there is none.
  @inlinable
  public func take() -> Int? {
    if count == 0 { return nil }
    unsafe freeCount.pointee &-= 1
    return Int(free[count])
  }

  /// Gives a taken slot back. Traps when more come back than were taken.
  @inlinable
  public func give(_ index: Int) {
    precondition(index >= 0 && index < capacity && count < capacity, "not a taken slot")
    free[count] = UInt32(index)
    unsafe freeCount.pointee &+= 1
  }
}
