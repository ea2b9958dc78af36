/// How long to wait between attempts to connect: twice as long each time, up to a bound, and by
/// chance up to a quarter less, so that many hosts do not come back at one moment.
public struct Backoff: Sendable {
  public let first: Duration
  public let longest: Duration
  /// Attempts since the last success.
  public private(set) var attemptCount = 0

  public init(first: Duration = .milliseconds(50), longest: Duration = .seconds(5)) {
    precondition(first > .zero && longest >= first, "a time to wait, and a longer one")
    self.first = first
    self.longest = longest
  }

  /// Counts a failed attempt and returns how long to wait before the next.
  public mutating func next(using generator: inout some RandomNumberGenerator) -> Duration {
    attemptCount += 1
    var wait = first
    for _ in 1..<max(2, min(attemptCount, 32)) where wait < longest && attemptCount > 1 {
      wait = min(wait * 2, longest)
    }
    return wait * Double.random(in: 0.75...1, using: &generator)
  }

  /// A connection stands.
  public mutating func succeeded() { attemptCount = 0 }
}
