/// A listener's rest when the system has nothing left for another connection: who waits at its
/// socket would wake it again and again.
public struct ListeningPause: Sendable {
  static let length: Duration = .milliseconds(100)
  /// Words are for people: one pause after the other says them once in a while.
  static let silence: Duration = .seconds(10)

  private var end: MonotonicTime?
  private var nextWords: MonotonicTime?

  public init() {}

  /// Begins a pause.
  ///
  /// - Returns: what to log, a line without its end; nil when that was said less than 10 s ago.
  public mutating func begin(at now: MonotonicTime, because error: Errno) -> String? {
    end = now + Self.length
    if let nextWords, now < nextWords { return nil }
    nextWords = now + Self.silence
    return "expected to take another connection, got \"\(error)\": who connects waits until others "
      + "leave; \(Self.remedy(for: error))"
  }

  /// Ends a pause whose time has come; true once for each.
  public mutating func isOver(at now: MonotonicTime) -> Bool {
    guard let end, end <= now else { return false }
    self.end = nil
    return true
  }

  private static func remedy(for error: Errno) -> String {
    switch error {
    case .tooManyOpenFiles:
      "start this process with a higher limit on open files (ulimit -n, or LimitNOFILE of its service)"
    case .tooManyOpenFilesInSystem:
      "raise the system's limit on open files (sysctl fs.file-max)"
    default: "free some of this machine's memory"
    }
  }
}
