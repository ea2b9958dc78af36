import FabricPlatform

/// How many frames of a kind may come: so many in a second, and as many at once. (NI-32)
struct FrameBudget {
  private let rate: Int
  private var left: Int
  private var filledAt = MonotonicTime.now

  init(rate: Int) {
    self.rate = rate
    left = rate
  }

  /// Whether one more may come.
  mutating func take() -> Bool { take(at: .now) }

  mutating func take(at now: MonotonicTime) -> Bool {
    let passed = min(now.nanoseconds(since: filledAt), 1_000_000_000)
    let earned = Int(passed) * rate / 1_000_000_000
    if earned > 0 {
      left = min(rate, left + earned)
      filledAt = now
    }
    guard left > 0 else { return false }
    left -= 1
    return true
  }
}
