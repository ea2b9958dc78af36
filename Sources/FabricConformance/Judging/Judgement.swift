import FabricPlatform

/// How a case ended.
public enum Verdict: String, Sendable, Codable {
  case passed
  case failed
  case notApplicable
}

/// A case's end, with what a reader needs to see it for himself.
public struct Judgement: Sendable {
  public let conformanceCase: ConformanceCase
  public let verdict: Verdict
  /// Why it failed, or is not applicable; empty where it passed.
  public let words: String
  public let seconds: Double
  /// What went over the wire; of cases that failed alone.
  public let frames: [FrameLog.Entry]
  /// Frames that were left out, the earliest.
  public let leftOutFrameCount: Int

  /// Carries a case out.
  init(of conformanceCase: ConformanceCase, log: FrameLog, _ run: () throws -> Void) {
    let start = MonotonicTime.now
    var verdict = Verdict.passed
    var words = ""
    do { try run() } catch let reason as NotApplicable {
      verdict = .notApplicable
      words = reason.description
    } catch {
      verdict = .failed
      words = "\(error)"
    }
    self.conformanceCase = conformanceCase
    self.verdict = verdict
    self.words = words
    seconds = Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9
    frames = verdict == .failed ? log.entries : []
    leftOutFrameCount = verdict == .failed ? log.leftOutCount : 0
  }
}
