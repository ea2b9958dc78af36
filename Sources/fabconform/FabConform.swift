import ArgumentParser
import FabricCommandLine

/// Judges hosts and units by the clauses of the protocols.
@main
struct FabConform: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fabconform",
    abstract:
      "Judges hosts and units, by the clauses of the messaging protocol and the block protocol.",
    discussion: """
      Exit codes: 0 no case failed; 1 a case failed, or none applied; 64 wrong use; 66 a local file cannot be used; \
      69 there is no unit or volume to judge; 71 the system lacks something; 130 interrupted.
      """,
    version: "fabconform \(Release.version)",
    subcommands: [List.self, Run.self, Serve.self])

  static func main() {
    var command = commandFromArguments(repeatable: ["--case", "--clause"])
    do { try command.run() } catch { end(because: error) }
  }
}
