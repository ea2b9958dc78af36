import FabricPlatform

/// What went over the connections of a case, in order: what a finding is shown with.
public final class FrameLog {
  /// More frames than a finding is read with are left out, the earliest first.
  static let limit = 200

  /// One line of it.
  public struct Entry: Sendable, Codable, Equatable {
    /// Milliseconds since the case began.
    public let milliseconds: Double
    /// Which connection of the case it is of, from 1.
    public let connection: Int
    /// Decoded, or what happened.
    public let words: String
    /// The bytes, as hexadecimal digits; nil for what is no frame. Of long ones the first 256.
    public let bytes: String?
  }

  public private(set) var entries: [Entry] = []
  public private(set) var leftOutCount = 0
  private let start = MonotonicTime.now
  private(set) var connectionCount = 0

  /// The most that a case may take, whatever it waits for.
  private static let caseLimit: Duration = .seconds(90)

  init() {}

  func checkTime() throws {
    try expect(
      MonotonicTime.now < start + Self.caseLimit,
      "expected that the case ends in \(Self.caseLimit), got a peer that is too slow for it")
  }

  /// The number of a new connection.
  func nextConnection() -> Int {
    connectionCount += 1
    return connectionCount
  }

  func add(_ connection: Int, _ words: String, _ bytes: [UInt8]? = nil) {
    if entries.count == Self.limit {
      entries.removeFirst()
      leftOutCount += 1
    }
    let nanoseconds = MonotonicTime.now.nanoseconds(since: start)
    entries.append(
      Entry(
        milliseconds: Double(nanoseconds / 1000) / 1000, connection: connection, words: words,
        bytes: bytes.map(Self.hexadecimal)))
  }

  private static func hexadecimal(_ bytes: [UInt8]) -> String {
    let digits = Array("0123456789abcdef")
    let shown = bytes.prefix(256).map { "\(digits[Int($0 >> 4)])\(digits[Int($0 & 15)])" }
    return shown.joined(separator: " ") + (bytes.count > 256 ? " …" : "")
  }
}
