import ArgumentParser
import FabricCommandLine
import FabricConformance
import FabricHostDriver
import FabricVerbs
import Foundation

struct Serve: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Judges hosts: as a unit that says what the protocols allow, and what they forbid.",
    discussion: """
      It serves the volume "conformance" of 1 MiB, from memory, to one host after the other. What is behind -- is \
      a command that uses the volume: it is started for each case, with {} replaced by the volume's URL, \
      {2} by that at the second address, and {unit} by that of the unit alone. Without \
      one, hosts have to come of themselves, once for each case. A command that writes and reads, \
      and does without a time-out for a few seconds, is judged by most cases.

      Examples: fabconform serve tcp:127.0.0.1:7430 -- iohost verify {} --overwrite --timeout 5
                fabconform serve shm:/tmp/judge.sock --case host-discovers -- iohost discover {unit}
      """)

  @Argument(help: "Where to listen: shm:PATH, tcp:HOST:PORT or rdma:HOST:PORT.")
  var address: String
  @Argument(parsing: .postTerminator, help: "A command to start for each case.")
  var command: [String] = []
  @Option(
    help: ArgumentHelp(
      "A second address, of the same fabric, for hosts that have two paths.", valueName: "ADDRESS"))
  var also: String?
  @Option(help: "Seconds that a host may take to come.") var patience = 10.0
  @Option(
    help: ArgumentHelp(
      "Has hosts prove a key of this file, the first one, and proves it to them.",
      valueName: "FILE"))
  var keyFile: String?
  @OptionGroup var choice: CaseChoice
  @OptionGroup var output: ReportOptions
  @OptionGroup var tcp: ChecksumOptions

  func validate() throws {
    guard patience > 0, patience <= 86_400 else {
      throw ValidationError("expected more than 0 and at most 86400 seconds, got \(patience)")
    }
    guard command.isEmpty || command.contains(where: { $0.contains("{}") || $0.contains("{unit}") })
    else {
      throw ValidationError(
        "expected {} in the command, in place of the volume's URL, or {unit} for the unit's")
    }
  }

  func run() throws {
    let chosen = try choice.choose(from: ConformanceCase.ofHosts)
    var places: [FabricAddress] = []
    for address in [address] + (also.map { [$0] } ?? []) {
      do { places.append(try VolumeAddress(parsingUnit: address).unit) } catch {
        throw ToolFailure(64, error.description)
      }
    }
    guard Set(places.map(\.fabric)).count == 1, Set(places).count == places.count else {
      throw ToolFailure(
        64, "expected another address of \(places[0].fabric) for --also, got \(places[1])")
    }
    let fabric = FabricChoice(isDirect: false, checksums: tcp.checksums, log: { Output.error($0) })
    let adapter = try fabric.adapter(for: places[0].fabric, at: places[0], isListening: true)
    var target = HostTarget(
      adapter: adapter, addresses: places, patience: .milliseconds(Int64(patience * 1000)),
      key: try JudgeKey.read(keyFile))
    if !command.isEmpty { target.start = { try start($0, $1) } }
    try output.begin(on: address)
    let judge: HostJudge
    do { judge = try HostJudge(target) } catch {
      throw ToolFailure(
        71,
        "expected to listen at \(places.map { "\($0)" }.joined(separator: " and ")), but: \(error)")
    }
    let urls = judge.addresses.map { "\(VolumeAddress(unit: $0, volumeName: HostTarget.volume))" }
      .joined(separator: " and ")
    StartedProgram.endWithSignals()
    Output.error("ready: hosts are judged at \(urls)")
    try output.report(on: urls, chosen) { judge.judge($0) }
  }

  /// Starts the command for a volume.
  private func start(_ units: [FabricAddress], _ volume: String) throws -> any HostProgram {
    let urls = units.map { "\(VolumeAddress(unit: $0, volumeName: volume))" }
    let unitURL = "\(VolumeAddress(unit: units[0], volumeName: ""))"
    return try StartedProgram(
      command.map {
        $0.replacingOccurrences(of: "{}", with: urls[0])
          .replacingOccurrences(of: "{2}", with: urls[urls.count - 1])
          .replacingOccurrences(of: "{unit}", with: unitURL)
      })
  }
}
