/// Small numbers, first in first out, at most as many as it was made for. Never allocates after
/// its making. Confined to one thread at a time.
@safe
public final class IndexQueue {
  @usableFromInline let items: FixedTable<UInt32>
  @usableFromInline let mask: UInt64
  /// Taken and added in all. Behind pointers: another module's use of a stored property is checked
  /// at run time.
  @usableFromInline let head: UnsafeMutablePointer<UInt64>
  @usableFromInline let tail: UnsafeMutablePointer<UInt64>
  public let capacity: Int

  public init(capacity: Int) {
    precondition(capacity > 0, "a queue holds at least one number")
    var size = 1
    while size < capacity { size *= 2 }
    items = FixedTable(repeating: 0, count: size)
    mask = UInt64(size - 1)
    unsafe head = .allocate(capacity: 1)
    unsafe tail = .allocate(capacity: 1)
    unsafe head.initialize(to: 0)
    unsafe tail.initialize(to: 0)
    self.capacity = capacity
  }

  deinit {
    unsafe head.deallocate()
    unsafe tail.deallocate()
  }

  @inlinable public var count: Int { unsafe Int(tail.pointee &- head.pointee) }
  @inlinable public var isEmpty: Bool { count == 0 }
  @inlinable public var isFull: Bool { count == capacity }

  /// Adds at the end; traps when full.
  @inlinable
  public func push(_ number: Int) {
    precondition(!isFull, "the queue is full")
    unsafe items[Int(tail.pointee & mask)] = UInt32(number)
    unsafe tail.pointee &+= 1
  }

  /// The oldest, which stays; nil when empty.
  @inlinable
  public var first: Int? { isEmpty ? nil : unsafe Int(items[Int(head.pointee & mask)]) }

  /// Takes the oldest; nil when empty.
  @inlinable
  public func pop() -> Int? {
    guard let number = first else { return nil }
    unsafe head.pointee &+= 1
    return number
  }

  public func removeAll() { unsafe head.pointee = tail.pointee }
}
