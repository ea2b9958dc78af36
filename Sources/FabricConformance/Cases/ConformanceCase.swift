/// One thing that a peer is asked, and what it has to do.
public struct ConformanceCase: Sendable {
  /// Short, unique, never used again for something else.
  public let id: String
  /// What the peer has to do, in words.
  public let title: String
  /// The clauses that it judges by.
  public let clauses: [String]
  /// Which half it is put to.
  public let role: Clause.Role
  let run: @Sendable (UnitBench) throws -> Void

  init(
    _ id: String, _ clauses: [String], _ title: String,
    run: @escaping @Sendable (UnitBench) throws -> Void
  ) {
    self.id = id
    self.title = title
    self.clauses = clauses
    role = .unit
    self.run = run
  }

  /// Those that are put to units, in the order in which they are.
  public static let ofUnits =
    headers + openings + buffers + credits + ends + keys + blockOpenings + commands + discovery
    + sessions + controls
}
