import ArgumentParser
import FabricCommandLine
import FabricNIC
import FabricPlatform

/// Network interfaces whose ports are on units.
struct NIC: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nic",
    abstract: "Network interfaces of this machine whose ports are on I/O units.",
    discussion: """
      Example: iohost nic attach fabric+tcp://HOST:PORT/lan0 --name fab0
               ip address add 192.0.2.2/24 dev fab0
               iohost nic detach fab0

      Interfaces are those of the network namespace that the command runs in.
      """,
    subcommands: [
      NICAttach.self, NICList.self, NICShow.self, NICRename.self, NICDetach.self,
    ])
}

/// Where interfaces are written down.
struct NICPlace: ParsableArguments {
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where interfaces are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  func directory() throws(ToolFailure) -> NICDirectory { try NICDirectory(stateDir) }
}

struct NICList: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "list", abstract: "Lists the interfaces that attach has made.",
    discussion: """
      A line each: interface, NIC, state, link, address and MTU as the unit has them. The state is \
      connecting (the reason and the log are below it), attached, or dead: its process has \
      died, and the interface, which has no carrier, waits for another attach or for detach.
      """)

  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var place: NICPlace

  func run() async {
    await reporting {
      let found = try place.directory().entries().map { $0.statusOfAny() }
      if json { return Output.line(JSON.list(found.map(\.json)).description) }
      NICStatus.describe(found)
    }
  }
}

struct NICShow: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "show", abstract: "Says what both halves of an interface have counted.",
    discussion: """
      Frames and bytes of each half, messages and transfers (writes to the other half's buffers), stalls \
      (the other half had no room; nothing is lost by that), and frames that were dropped, by reason: \
      refused is what an interface's kernel did not take, missed what came to an interface while its \
      queue was full. Received is what came from the other half, sent what went there.
      """)

  @Argument(help: "The interface, such as fab0.") var name: String
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @OptionGroup var place: NICPlace

  func run() async {
    await reporting {
      let entry = try place.directory().entry(name)
      let status = try entry.ask(NICRequest("show")).get()
      if json { return Output.line(status.json.description) }
      NICStatus.describe([status])
      status.describeCounts()
    }
  }
}

struct NICRename: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "rename", abstract: "Gives an interface another name.",
    discussion: "Older kernels rename only what is down: ip link set NAME down.")

  @Argument(help: "The interface, such as fab0.") var name: String
  @Argument(help: "What it is to be called.") var other: String
  @OptionGroup var place: NICPlace

  func run() async {
    await reporting {
      let entry = try place.directory().entry(name)
      let status = try entry.ask(NICRequest("rename", name: other)).get()
      Output.line(status.name)
    }
  }
}

struct NICDetach: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "detach", abstract: "Ends interfaces that attach has made.",
    discussion: "An interface that was there before attach stays, without a carrier.")

  @Argument(help: "Interfaces, such as fab0.") var names: [String] = []
  @Flag(name: .long, help: "All of them.") var all = false
  @OptionGroup var place: NICPlace

  func validate() throws {
    guard names.isEmpty == all else {
      throw ValidationError(
        all ? "expected interfaces or --all, got both" : "expected an interface or --all, got none")
    }
  }

  func run() async {
    await reporting {
      let directory = try place.directory()
      let chosen = try all ? directory.entries() : names.map { try directory.entry($0) }
      var failure: ToolFailure?
      for entry in chosen {
        do {
          try entry.detach()
          Output.line("detached \(entry.name)")
        } catch {
          if let failure { Output.error("error: \(failure.words)") }
          failure = ToolFailure(anything: error)
        }
      }
      if let failure { throw failure }
    }
  }
}
