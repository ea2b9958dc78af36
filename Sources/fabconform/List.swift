public import ArgumentParser
import FabricCommandLine
public import FabricConformance

struct List: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the clauses, each with the cases that judge by it.",
    discussion: """
      Examples: fabconform list --role unit --level must
                fabconform list --section Fencing --json
      """)

  @Option(help: "Clauses that bind a half, host or unit, and its cases; or those that bind both.")
  var role: Clause.Role?
  @Option(help: "How binding: must or should.") var level: Clause.Level?
  @Option(
    help: "Those of a page of Specs (Messaging, IOProtocol) or of a heading there, in any case.")
  var section: String?
  @Flag(help: "Reports as JSON.") var json = false

  func run() throws {
    let clauses = Clause.all.filter { clause in
      (role.map { $0 == .both ? clause.role == .both : clause.role.binds($0) } ?? true)
        && (level.map { clause.level == $0 } ?? true)
        && (section.map { isOf(clause, $0.lowercased()) } ?? true)
    }
    guard !clauses.isEmpty else {
      let known = Set(Clause.all.map(\.section)).union(Clause.Page.allCases.map(\.rawValue))
      throw ToolFailure(
        64,
        "expected a choice that leaves a clause, found none; sections are "
          + known.sorted().joined(separator: ", "))
    }
    let listing = ClauseListing(clauses, for: role ?? .both)
    if json { return Output.line(try listing.json()) }
    listing.lines.forEach { Output.line($0) }
  }

  private func isOf(_ clause: Clause, _ words: String) -> Bool {
    clause.section.lowercased() == words || clause.page.rawValue.lowercased() == words
  }
}

extension Clause.Role: ExpressibleByArgument {}
extension Clause.Level: ExpressibleByArgument {}
