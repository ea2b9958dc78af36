public import Synchronization

/// A lock that may be taken in one function and given back in another, and tried without waiting.
public struct FutexLock: ~Copyable, Sendable {
  /// 0 free, 1 taken, 2 taken and somebody may sleep.
  @usableFromInline let word = Atomic<UInt32>(0)

  /// Sequentially consistent: who fails may rely on the holder's look at what was stored before.
  @inlinable
  public borrowing func tryLock() -> Bool {
    word.compareExchange(expected: 0, desired: 1, ordering: .sequentiallyConsistent).exchanged
  }

  public init() {}

  @inlinable
  public borrowing func lock() {
    if tryLock() { return }
    while word.exchange(2, ordering: .acquiring) != 0 { Futex.wait(word, while: 2) }
  }

  @inlinable
  public borrowing func unlock() {
    if word.exchange(0, ordering: .sequentiallyConsistent) == 2 { Futex.wake(word, count: 1) }
  }

  @inlinable
  public borrowing func withLock<Result>(_ body: () -> Result) -> Result {
    lock()
    defer { unlock() }
    return body()
  }
}
