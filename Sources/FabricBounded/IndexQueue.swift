/// Small numbers, first in first out, at most as many as it was made for. Never allocates after
/// its making. Confined to one thread at a time.
@safe
public final class IndexQueue {
  @usableFromInline let items: FixedTable<UInt32>
  @usableFromInline let mask: UInt64
  @usableFromInline var head: UInt64 = 0
  @usableFromInline var tail: UInt64 = 0
  public let capacity: Int

  public init(capacity: Int) {
    precondition(capacity > 0, "a queue holds at least one number")
    var size = 1
    while size < capacity { size *= 2 }
    items = FixedTable(repeating: 0, count: size)
    mask = UInt64(size - 1)
    self.capacity = capacity
  }

  @inlinable public var count: Int { Int(tail &- head) }
  @inlinable public var isEmpty: Bool { tail == head }
  @inlinable public var isFull: Bool { count == capacity }

  /// Adds at the end; traps when full.
  @inlinable
  public func push(_ number: Int) {
    precondition(!isFull, "the queue is full")
    items[Int(tail & mask)] = UInt32(number)
    tail &+= 1
  }

  /// The oldest, which stays; nil when empty.
  @inlinable
  public var first: Int? { isEmpty ? nil : Int(items[Int(head & mask)]) }

  /// Takes the oldest; nil when empty.
  @inlinable
  public func pop() -> Int? {
    if isEmpty { return nil }
    let number = Int(items[Int(head & mask)])
    head &+= 1
    return number
  }

  public func removeAll() { head = tail }
}
