extension FaultPlan {
  /// Why a plan's text was refused.
  public struct ParsingError: Error, Equatable, Sendable, CustomStringConvertible {
    public let expected: String
    public let found: String

    public var description: String {
      "expected \(expected), got \"\(found)\"; "
        + "a fault is written like \"delay=1ms;error=write:mediaWriteError:blocks=8-15\""
    }
  }

  /// Reads clauses separated by `;`:
  ///
  ///     delay=DURATION[:OPERATION]
  ///     error=OPERATION:STATUS[:blocks=FIRST-LAST][:nth=N][:count=N]
  ///
  /// OPERATION is a case of `BlockOperation` or `any`, STATUS one of `BlockStatus`, DURATION a
  /// whole number with `ns`, `us`, `ms` or `s`. `nth` fails only the n-th such request (from 1),
  /// and with `count` so many from there on.
  public init(parsing text: String) throws(ParsingError) {
    self.init()
    for clause in text.split(separator: ";", omittingEmptySubsequences: false) {
      let parts = clause.split(separator: "=", maxSplits: 1)
      guard parts.count == 2 else {
        throw ParsingError(expected: "delay=... or error=...", found: String(clause))
      }
      let fields = parts[1].split(separator: ":", omittingEmptySubsequences: false)
      switch parts[0] {
      case "delay": delays.append(try Self.delay(fields))
      case "error": failures.append(try Self.failure(fields))
      default: throw ParsingError(expected: "delay=... or error=...", found: String(clause))
      }
    }
  }

  private static func delay(_ fields: [Substring]) throws(ParsingError) -> Delay {
    guard fields.count <= 2 else {
      throw ParsingError(expected: "DURATION[:OPERATION]", found: fields.joined(separator: ":"))
    }
    return Delay(
      try duration(fields[0]), of: fields.count == 2 ? try operation(fields[1]) : nil)
  }

  private static func failure(_ fields: [Substring]) throws(ParsingError) -> Failure {
    guard fields.count >= 2 else {
      throw ParsingError(expected: "OPERATION:STATUS", found: fields.joined(separator: ":"))
    }
    guard let status = BlockStatus(name: fields[1]), status != .success else {
      let names = BlockStatus.allCases.dropFirst().map { "\($0)" }.joined(separator: ", ")
      throw ParsingError(expected: "a status (\(names))", found: String(fields[1]))
    }
    var failure = Failure(status, of: try operation(fields[0]))
    for field in fields.dropFirst(2) {
      let parts = field.split(separator: "=", maxSplits: 1)
      let expected = "blocks=FIRST-LAST, nth=N or count=N"
      guard parts.count == 2 else { throw ParsingError(expected: expected, found: String(field)) }
      switch parts[0] {
      case "blocks": failure.blocks = try blocks(parts[1])
      case "nth":
        failure.first = try positive(parts[1])
        if failure.count == nil { failure.count = 1 }
      case "count": failure.count = try positive(parts[1])
      default: throw ParsingError(expected: expected, found: String(field))
      }
    }
    return failure
  }

  private static func operation(_ text: Substring) throws(ParsingError) -> BlockOperation? {
    if text == "any" { return nil }
    if let operation = BlockOperation.allCases.first(where: { "\($0)" == text }) {
      return operation
    }
    let names = BlockOperation.allCases.map { "\($0)" }.joined(separator: ", ")
    throw ParsingError(expected: "an operation (any, \(names))", found: String(text))
  }

  private static func duration(_ text: Substring) throws(ParsingError) -> Duration {
    guard let duration = duration(parsing: text) else {
      throw ParsingError(expected: "a duration such as 500us, 1ms or 2s", found: String(text))
    }
    return duration
  }

  /// Reads a whole number with `ns`, `us`, `ms` or `s`; nil for anything else.
  public static func duration(parsing text: Substring) -> Duration? {
    let digits = text.prefix { $0.isASCII && $0.isNumber }
    if let value = Int64(digits) {
      switch text.dropFirst(digits.count) {
      case "ns": return .nanoseconds(value)
      case "us": return .microseconds(value)
      case "ms": return .milliseconds(value)
      case "s": return .seconds(value)
      default: break
      }
    }
    return nil
  }

  private static func blocks(_ text: Substring) throws(ParsingError) -> ClosedRange<UInt64> {
    let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { UInt64($0) }
    guard let first = ends[0], ends.count <= 2, let last = ends[ends.count - 1], first <= last
    else { throw ParsingError(expected: "blocks FIRST-LAST", found: String(text)) }
    return first...last
  }

  private static func positive(_ text: Substring) throws(ParsingError) -> UInt64 {
    guard let value = UInt64(text), value > 0 else {
      throw ParsingError(expected: "a number from 1", found: String(text))
    }
    return value
  }
}
