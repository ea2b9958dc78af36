/// One numbered clause of a protocol, as its page in `Specs` has it; a test compares the two.
public struct Clause: Sendable, Hashable {
  /// How binding it is. (RFC 2119)
  public enum Level: String, Sendable, CaseIterable, Codable { case must, should }

  /// Which half of the split driver it binds.
  public enum Role: String, Sendable, CaseIterable, Codable {
    case host, unit, both

    /// Whether it binds `other`.
    public func binds(_ other: Role) -> Bool { self == .both || other == .both || self == other }
  }

  /// A page of `Specs`, without its ending.
  public enum Page: String, Sendable, CaseIterable, Codable {
    case messaging = "Messaging"
    case blockIO = "IOProtocol"
  }

  /// Its number on the page: `MS-5`.
  public let id: String
  public let level: Level
  public let role: Role
  public let page: Page
  /// The heading above it.
  public let section: String
  /// Its words, without tables, on one line.
  public let sentence: String

  init(
    _ id: String, _ level: Level, _ role: Role, of page: Page, in section: String,
    _ sentence: String
  ) {
    self.id = id
    self.level = level
    self.role = role
    self.page = page
    self.section = section
    self.sentence = sentence
  }

  /// All, in the order of their pages.
  public static let all = messaging + opening + commands + further

  public static let byNumber = Dictionary(uniqueKeysWithValues: all.map { ($0.id, $0) })
}
