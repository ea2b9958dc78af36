import Foundation

/// All judgements of a run, for people and for programs.
public struct Report: Sendable {
  /// What was judged: a URL.
  public let subject: String
  public let judgements: [Judgement]
  /// Whether all cases were put; else it is that of a run under way, or that was ended.
  public let isWhole: Bool

  public init(subject: String, judgements: [Judgement], isWhole: Bool = true) {
    self.subject = subject
    self.judgements = judgements
    self.isWhole = isWhole
  }

  public func count(_ verdict: Verdict) -> Int { judgements.count { $0.verdict == verdict } }

  /// One line: how many passed, failed, and were not applicable.
  public var summary: String {
    "\(count(.passed)) passed, \(count(.failed)) failed, \(count(.notApplicable)) not applicable"
  }

  // MARK: For people

  /// The line of a judgement as it comes.
  public static func line(for judgement: Judgement) -> String {
    let mark =
      switch judgement.verdict {
      case .passed: "passed "
      case .failed: "FAILED "
      case .notApplicable: "n/a    "
      }
    let words = judgement.words.isEmpty ? "" : ": \(judgement.words)"
    let judged = judgement.conformanceCase
    return "\(mark) \(judged.id)\(words) (\(judged.clauses.joined(separator: ", ")))"
  }

  /// What a failed case was about, and what was seen on the wire.
  public static func details(of judgement: Judgement) -> [String] {
    let judged = judgement.conformanceCase
    var lines = ["\(judged.id): \(judged.title)", "  \(judgement.words)"]
    for number in judged.clauses {
      guard let clause = Clause.byNumber[number] else { continue }
      lines.append("  \(number) (\(clause.level.rawValue)): \(clause.sentence)")
    }
    if judgement.leftOutFrameCount > 0 {
      lines.append("  … \(judgement.leftOutFrameCount) frames before these")
    }
    for entry in judgement.frames {
      lines.append("  \(entry.milliseconds) ms, connection \(entry.connection) \(entry.words)")
      if let bytes = entry.bytes { lines.append("      \(bytes)") }
    }
    return lines
  }

  // MARK: For programs

  private struct Document: Encodable {
    struct Case: Encodable {
      let id: String
      let title: String
      let clauses: [String]
      let verdict: Verdict
      let words: String
      let seconds: Double
      let frames: [FrameLog.Entry]
      /// Frames before these that were left out.
      let leftOutFrameCount: Int
    }
    let subject: String
    let passed: Int
    let failed: Int
    let notApplicable: Int
    let cases: [Case]
  }

  public func json() throws -> String {
    let cases = judgements.map {
      Document.Case(
        id: $0.conformanceCase.id, title: $0.conformanceCase.title,
        clauses: $0.conformanceCase.clauses, verdict: $0.verdict, words: $0.words,
        seconds: $0.seconds, frames: $0.frames, leftOutFrameCount: $0.leftOutFrameCount)
    }
    return try Self.json(
      Document(
        subject: subject, passed: count(.passed), failed: count(.failed),
        notApplicable: count(.notApplicable), cases: cases))
  }

  static func json(_ value: some Encodable) throws -> String {
    let encoder = JSONEncoder()
    encoder.outputFormatting = [.sortedKeys, .withoutEscapingSlashes]
    return String(decoding: try encoder.encode(value), as: UTF8.self)
  }
}
