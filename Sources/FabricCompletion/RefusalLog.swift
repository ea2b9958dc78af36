public import FabricPlatform

/// What is told of peers that were refused: a line for each of the first few, and of a flood how
/// many each second. Time is an argument.
struct RefusalTally {
  static let lineLimit = 5
  static let period: Duration = .seconds(1)

  /// Of the period under way; nil when none is.
  private var end: MonotonicTime?
  private var lineCount = 0
  private var untoldCount = 0

  /// When `pass` has something to tell; nil: nothing is untold.
  var nextDeadline: MonotonicTime? { untoldCount > 0 ? end : nil }

  /// Counts one; returns the lines to log.
  mutating func note(_ line: String, at now: MonotonicTime) -> [String] {
    var lines: [String] = []
    if let words = pass(now) { lines.append(words) }
    if end == nil {
      end = now + Self.period
      lineCount = 0
    }
    if lineCount < Self.lineLimit {
      lineCount += 1
      lines.append(line)
    } else {
      untoldCount += 1
    }
    return lines
  }

  /// Ends a period that is over; returns the line to log, if any. One that told of a flood goes on
  /// as another, without lines of its own until the flood has ended.
  mutating func pass(_ now: MonotonicTime) -> String? {
    guard let end, end <= now else { return nil }
    guard untoldCount > 0 else {
      self.end = nil
      return nil
    }
    defer {
      untoldCount = 0
      self.end = now + Self.period
    }
    return "refused \(untoldCount) more connection\(untoldCount == 1 ? "" : "s") in the last second"
  }
}

/// Logs refusals: a line for each of the first few, and of a flood how many each second. To be added
/// to its service; confined to that one's first thread.
public final class RefusalLog: TimedSource {
  private var tally = RefusalTally()
  private let service: CompletionService
  private let log: @Sendable (String) -> Void

  /// - Parameter log: told one line each.
  public init(_ service: CompletionService, log: @escaping @Sendable (String) -> Void) {
    self.service = service
    self.log = log
  }

  /// A peer was refused: who and why, in one line.
  public func refused(_ words: String) {
    let deadline = tally.nextDeadline
    for line in tally.note(words, at: .now) { log(line) }
    if tally.nextDeadline != deadline { service.deadlinesHaveChanged() }
  }

  public func progress(at now: MonotonicTime) -> Int {
    guard let line = tally.pass(now) else { return 0 }
    log(line)
    return 1
  }

  public var nextDeadline: MonotonicTime? { tally.nextDeadline }
}
