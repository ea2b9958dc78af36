import CFabricLinux
public import Synchronization

/// Sleeping on an atomic word of this process. The corresponding C call is `futex`.
public enum Futex {
  /// Sleeps while `word` holds `expected`, until woken or `timeout` has passed. May return early:
  /// the caller checks the word again.
  public static func wait(
    _ word: borrowing Atomic<UInt32>, while expected: UInt32, timeout: Duration? = nil
  ) {
    unsafe withAddress(of: word) { place in
      guard let timeout else {
        _ = unsafe fabric_futex_wait(place, expected, nil)
        return
      }
      let total = timeout.nanoseconds
      var limit = timespec(
        tv_sec: Int(clamping: total / 1_000_000_000), tv_nsec: Int(total % 1_000_000_000))
      _ = unsafe fabric_futex_wait(place, expected, &limit)
    }
  }

  /// Wakes at most `count` threads that sleep on `word`.
  public static func wake(_ word: borrowing Atomic<UInt32>, count: Int = .max) {
    unsafe withAddress(of: word) { place in
      _ = unsafe fabric_futex_wake(place, CInt(clamping: count))
    }
  }

  /// An atomic never moves, so its address is its identity for the kernel.
  private static func withAddress(
    of word: borrowing Atomic<UInt32>, _ body: (UnsafePointer<UInt32>) -> Void
  ) {
    unsafe withUnsafePointer(to: word) { pointer in
      unsafe body(UnsafeRawPointer(pointer).assumingMemoryBound(to: UInt32.self))
    }
  }
}
