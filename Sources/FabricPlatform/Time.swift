import CFabricLinux

/// A moment on the machine's monotonic clock, in nanoseconds since an arbitrary start.
public struct MonotonicTime: Comparable, Hashable, Sendable {
  public var nanoseconds: UInt64

  @inlinable
  public init(nanoseconds: UInt64) { self.nanoseconds = nanoseconds }

  /// The moment of the call. The corresponding C call is `clock_gettime(CLOCK_MONOTONIC)`.
  public static var now: MonotonicTime {
    var time = timespec()
    unsafe clock_gettime(CLOCK_MONOTONIC, &time)
    return MonotonicTime(
      nanoseconds: UInt64(time.tv_sec) &* 1_000_000_000 &+ UInt64(time.tv_nsec))
  }

  @inlinable
  public static func < (one: Self, other: Self) -> Bool { one.nanoseconds < other.nanoseconds }

  /// The moment `duration` later; saturates.
  public static func + (time: Self, duration: Duration) -> Self {
    let added = time.nanoseconds.addingReportingOverflow(duration.nanoseconds)
    return Self(nanoseconds: added.overflow ? .max : added.partialValue)
  }

  /// Nanoseconds from `earlier` to this moment; 0 when `earlier` is not earlier.
  @inlinable
  public func nanoseconds(since earlier: Self) -> UInt64 {
    nanoseconds > earlier.nanoseconds ? nanoseconds &- earlier.nanoseconds : 0
  }
}

extension Duration {
  /// Whole nanoseconds; 0 when negative, saturated when too long.
  public var nanoseconds: UInt64 {
    let (seconds, attoseconds) = components
    guard seconds >= 0, attoseconds >= 0 else { return 0 }
    let scaled = UInt64(seconds).multipliedReportingOverflow(by: 1_000_000_000)
    guard !scaled.overflow else { return .max }
    let sum = scaled.partialValue.addingReportingOverflow(UInt64(attoseconds / 1_000_000_000))
    return sum.overflow ? .max : sum.partialValue
  }
}

/// Tells the processor that the calling thread spins.
@inlinable
@inline(__always)
public func spinHint() { cSpinHint() }

@usableFromInline
@inline(__always)
func cSpinHint() { fabric_spin_hint() }
