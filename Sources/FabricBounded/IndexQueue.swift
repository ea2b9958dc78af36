/// Small numbers, first in first out, at most as many as it was made for. Never allocates after
/// its making. Confined to one thread at a time.
@safe
public final class IndexQueue {
  /// Taken and added in all, and behind those counts the numbers. All behind one pointer: another
  /// module's use of a stored property is checked at run time, and memory of their own would be more
  /// lines of the cache.
  @usableFromInline let block: UnsafeMutablePointer<UInt32>
  @usableFromInline let mask: UInt32
  public let capacity: Int

  public init(capacity: Int) {
    precondition(capacity > 0 && capacity < 1 << 30, "a queue holds at least one number")
    var size = 1
    while size < capacity { size *= 2 }
    mask = UInt32(size - 1)
    unsafe block = .allocate(capacity: size + 2)
    unsafe block.initialize(repeating: 0, count: size + 2)
    self.capacity = capacity
  }

  deinit { unsafe block.deallocate() }

  @usableFromInline var head: UInt32 {
    @inlinable get { unsafe block[0] }
    @inlinable set { unsafe block[0] = newValue }
  }
  @usableFromInline var tail: UInt32 {
    @inlinable get { unsafe block[1] }
    @inlinable set { unsafe block[1] = newValue }
  }
  @inlinable
  func place(_ position: UInt32) -> Int { 2 &+ Int(position & mask) }

  @inlinable public var count: Int { Int(tail &- head) }
  @inlinable public var isEmpty: Bool { head == tail }
  @inlinable public var isFull: Bool { count == capacity }

  /// Adds at the end; traps when full.
  @inlinable
  public func push(_ number: Int) {
    precondition(!isFull, "the queue is full")
    unsafe block[place(tail)] = UInt32(number)
    tail &+= 1
  }

  /// The oldest, which stays; nil when empty.
  @inlinable
  public var first: Int? { isEmpty ? nil : unsafe Int(block[place(head)]) }

  /// Takes the oldest; nil when empty.
  @inlinable
  public func pop() -> Int? {
    guard let number = first else { return nil }
    head &+= 1
    return number
  }

  public func removeAll() { head = tail }

  /// Where its memory begins, to be brought near. Unsafe: valid as long as the queue.
  @inlinable
  @unsafe
  public var address: UnsafeRawPointer { unsafe UnsafeRawPointer(block) }
}
