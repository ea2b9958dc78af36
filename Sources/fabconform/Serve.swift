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
      a command that uses the volume: it is started for each case, with {} replaced by the volume's URL. Without \
      one, hosts have to come of themselves, once for each case. A command that writes and reads, \
      and does without a time-out for a few seconds, is judged by most cases.

      Example: fabconform serve tcp:127.0.0.1:7430 -- iohost verify {} --overwrite --timeout 5
      """)

  @Argument(help: "Where to listen: shm:PATH, tcp:HOST:PORT or rdma:HOST:PORT.")
  var address: String
  @Argument(parsing: .postTerminator, help: "A command to start for each case.")
  var command: [String] = []
  @Option(help: "Seconds that a host may take to come.") var patience = 10.0
  @OptionGroup var choice: CaseChoice
  @OptionGroup var output: ReportOptions
  @OptionGroup var tcp: ChecksumOptions

  func validate() throws {
    guard patience > 0, patience <= 86_400 else {
      throw ValidationError("expected more than 0 and at most 86400 seconds, got \(patience)")
    }
    guard command.isEmpty || command.contains(where: { $0.contains("{}") }) else {
      throw ValidationError("expected {} in the command, in place of the volume's URL")
    }
  }

  func run() throws {
    let chosen = try choice.choose(from: ConformanceCase.ofHosts)
    let place: VolumeAddress
    do { place = try VolumeAddress(parsingUnit: address) } catch {
      throw ToolFailure(64, error.description)
    }
    let fabric = FabricChoice(isDirect: false, checksums: tcp.checksums, log: { Output.error($0) })
    let adapter = try fabric.adapter(
      for: place.unit.fabric, at: place.unit, isListening: true)
    let judge: HostJudge
    do {
      judge = try HostJudge(
        HostTarget(
          adapter: adapter, address: place.unit, patience: .milliseconds(Int64(patience * 1000)),
          start: command.isEmpty ? nil : { try start($0, $1) }))
    } catch { throw ToolFailure(71, "expected to listen at \(address), but: \(error)") }
    let url = VolumeAddress(unit: judge.address, volumeName: HostTarget.volume)
    Output.error("ready: hosts are judged at \(url)")
    try output.report(on: "\(url)", chosen) { judge.judge($0) }
  }

  /// Starts the command for a volume.
  private func start(_ unit: FabricAddress, _ volume: String) throws -> any HostProgram {
    let url = "\(VolumeAddress(unit: unit, volumeName: volume))"
    return try StartedProgram(command.map { $0.replacingOccurrences(of: "{}", with: url) })
  }
}

/// A host that was started for a case; what it says goes nowhere.
private final class StartedProgram: HostProgram {
  private let process = Process()

  init(_ arguments: [String]) throws {
    process.executableURL = URL(filePath: "/usr/bin/env")
    process.arguments = arguments
    process.standardInput = FileHandle.nullDevice
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
  }

  var status: Int32? { process.isRunning ? nil : process.terminationStatus }

  func end() {
    if process.isRunning { kill(process.processIdentifier, SIGKILL) }
    process.waitUntilExit()
  }
}
