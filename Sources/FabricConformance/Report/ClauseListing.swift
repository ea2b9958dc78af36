/// Clauses and cases, for people and for programs.
public struct ClauseListing: Sendable {
  public let clauses: [Clause]
  private let half: Clause.Role

  /// - Parameter half: whose cases are listed: one half's, or those of both.
  public init(_ clauses: [Clause], for half: Clause.Role = .both) {
    self.clauses = clauses
    self.half = half
  }

  public static func cases(of clause: Clause) -> [ConformanceCase] {
    ConformanceCase.all.filter { $0.clauses.contains(clause.id) }
  }

  private func cases(of clause: Clause) -> [ConformanceCase] {
    Self.cases(of: clause).filter { half == .both || $0.role == half }
  }

  /// One line for each clause and for each of its cases.
  public var lines: [String] {
    clauses.flatMap { clause in
      ["\(clause.id)  \(clause.level.rawValue), \(clause.role.rawValue)  \(clause.sentence)"]
        + cases(of: clause).map {
          "    \($0.id) (\($0.role.rawValue)): \($0.title)"
        }
    }
  }

  private struct Entry: Encodable {
    struct Case: Encodable {
      let id: String
      let title: String
      let role: Clause.Role
    }
    let id: String
    let level: Clause.Level
    let role: Clause.Role
    let page: Clause.Page
    let section: String
    let sentence: String
    let cases: [Case]
  }

  public func json() throws -> String {
    try Report.json(
      clauses.map { clause in
        Entry(
          id: clause.id, level: clause.level, role: clause.role, page: clause.page,
          section: clause.section, sentence: clause.sentence,
          cases: cases(of: clause).map { .init(id: $0.id, title: $0.title, role: $0.role) })
      })
  }
}
