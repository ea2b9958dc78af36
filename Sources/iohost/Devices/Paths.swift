import ArgumentParser
import FabricCommandLine
import FabricHostDriver

struct Paths: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Shows the paths of devices, and chooses how requests go by them.",
    discussion: """
      A path's state is what the unit says of it while it is connected (optimised, non-optimised, \
      inaccessible), else connecting, waiting for the next attempt, or given up. Losses are \
      connections that were lost; what was under way on them was resent by another path, or \
      recovered: the unit knew how it had ended.
      """)

  @Argument(help: "Devices, such as /dev/loop3, or their names; without, all.")
  var devices: [String] = []
  @Option(
    name: .long,
    help: ArgumentHelp(
      "From now on: \(PathPolicy.allCases.map(\.rawValue).joined(separator: ", ")).",
      valueName: "POLICY"))
  var policy: PathPolicy?
  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where devices are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  func run() async {
    await reporting {
      let living = try StateDirectory(stateDir).livingEntries()
      let chosen =
        devices.isEmpty ? living : try devices.map { try Detach.entry($0, of: living) }
      if policy != nil, chosen.isEmpty {
        throw ToolFailure(66, "expected a device to set the policy of, but none is attached")
      }
      var found: [(name: String, device: String, paths: DevicePaths)] = []
      for entry in chosen {
        let request = ControlRequest("paths", policy: policy?.rawValue)
        let answer = try entry.ask(request, seconds: 5)
        try answer.check()
        guard let paths = answer.paths else {
          throw ToolFailure(69, "expected paths of \(entry.name), got something else")
        }
        found.append((entry.name, entry.readRecord()?.device ?? "no device yet", paths))
      }
      if json {
        let objects = found.map { name, device, paths in
          JSON.object([
            ("name", .text(name)), ("device", .text(device)), ("policy", .text(paths.policy)),
            ("paths", .list(paths.paths.map(\.json))),
          ])
        }
        return Output.line(JSON.list(objects).description)
      }
      for (name, device, paths) in found {
        Output.line("\(device)  \(name), \(paths.policy)")
        for line in table([DevicePaths.Path.columns] + paths.paths.map(\.cells)) {
          Output.line("  \(line)")
        }
        for words in paths.paths.compactMap(\.trouble) { Output.line("  \(words)") }
      }
    }
  }
}
