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

  /// Whether so many more may come.
  mutating func take(_ count: Int) -> Bool { take(count, at: .now) }

  mutating func take(_ count: Int, at now: MonotonicTime) -> Bool {
    let passed = min(now.nanoseconds(since: filledAt), 1_000_000_000)
    let earned = Int(passed) * rate / 1_000_000_000
    if earned > 0 {
      left = min(rate, left + earned)
      // What is less than a whole frame counts next time.
      filledAt =
        passed < 1_000_000_000 ? filledAt + .nanoseconds(earned * 1_000_000_000 / rate) : now
    }
    guard left >= min(count, rate) else { return false }
    left -= min(count, rate)
    return true
  }
}
