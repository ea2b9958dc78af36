/// One thing that a peer is asked, and what it has to do.
public struct ConformanceCase: Sendable {
  /// Short, unique, never used again for something else.
  public let id: String
  /// What the peer has to do, in words.
  public let title: String
  /// The clauses that it judges by.
  public let clauses: [String]
  /// Which half it is put to.
  public var role: Clause.Role {
    if case .unit = body { .unit } else { .host }
  }

  private enum Body: Sendable {
    case unit(@Sendable (UnitBench) throws -> Void)
    case host(@Sendable (HostBench) throws -> Void)
  }
  private let body: Body

  private init(_ id: String, _ clauses: [String], _ title: String, _ body: Body) {
    self.id = id
    self.title = title
    self.clauses = clauses
    self.body = body
  }

  /// A case that is put to a unit.
  init(
    _ id: String, _ clauses: [String], _ title: String,
    run: @escaping @Sendable (UnitBench) throws -> Void
  ) {
    self.init(id, clauses, title, .unit(run))
  }

  /// A case that is put to a host.
  init(
    ofHost id: String, _ clauses: [String], _ title: String,
    run: @escaping @Sendable (HostBench) throws -> Void
  ) {
    self.init(id, clauses, title, .host(run))
  }

  func run(unit bench: UnitBench) throws {
    if case .unit(let run) = body { try run(bench) }
  }

  func run(host bench: HostBench) throws {
    if case .host(let run) = body { try run(bench) }
  }

  /// Those that are put to units, in the order in which they are.
  public static let ofUnits =
    headers + openings + buffers + credits + ends + keys + blockOpenings + commands + discovery
    + sessions + controls

  /// Those that are put to hosts, in the order in which they are.
  public static let ofHosts =
    hostOpenings + hostKeys + hostWork + hostDiscovery + hostViolations + hostPaths

  public static let all = ofUnits + ofHosts
}
