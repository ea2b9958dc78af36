public import Synchronization

/// Admits at most as many requests to a completion queue as their completions could be held.
///
/// While its members' queues could not hold more than `capacity` requests together nothing can go
/// wrong, so nothing is counted: `admit` is one load then. Once they could, every request is
/// counted from its post until its completion was polled, or until it ended without one.
///
/// Threads: `join` and `leave` come one at a time, under the completion queue's lock; `admit` and
/// `withdraw` from any thread.
public struct CompletionAdmission: ~Copyable, Sendable {
  /// Requests outstanding at once, at most.
  public let capacity: Int
  /// Requests that all members' queues could hold together.
  private let possible = Atomic<Int>(0)
  /// Requests outstanding; kept only while counting.
  @usableFromInline let admitted = Atomic<Int>(0)
  /// Never off again: what was counted would have to be found out a second time.
  @usableFromInline let isCounting = Atomic<Bool>(false)

  public init(capacity: Int) { self.capacity = capacity }

  /// A member has come whose queues could hold `possible` requests.
  ///
  /// - Parameter outstanding: counts the requests that all members' queues hold now, the new one's
  ///   too; asked once, when counting begins.
  public func join(possible count: Int, outstanding: () -> Int) {
    let sum = possible.add(count, ordering: .relaxed).newValue
    guard sum > capacity, !isCounting.load(ordering: .relaxed) else { return }
    admitted.store(outstanding(), ordering: .relaxed)
    isCounting.store(true, ordering: .releasing)
  }

  /// A member has gone whose queues could hold `possible` requests.
  ///
  /// - Parameter outstanding: counts the requests that its queues still held; nobody will poll
  ///   their completions.
  public func leave(possible count: Int, outstanding: () -> Int) {
    possible.subtract(count, ordering: .relaxed)
    if isCounting.load(ordering: .relaxed) { admitted.subtract(outstanding(), ordering: .relaxed) }
  }

  /// How many of `count` more requests could have their completions held; these are counted.
  @inlinable @inline(__always)
  public func admit(_ count: Int) -> Int {
    guard isCounting.load(ordering: .relaxed) else { return count }
    let before = admitted.add(count, ordering: .relaxed).oldValue
    let granted = max(0, min(count, capacity &- before))
    if granted < count { admitted.subtract(count &- granted, ordering: .relaxed) }
    return granted
  }

  /// `count` admitted requests were not posted after all, or have ended.
  @inlinable @inline(__always)
  public func withdraw(_ count: Int) {
    if isCounting.load(ordering: .relaxed) { admitted.subtract(count, ordering: .relaxed) }
  }
}
