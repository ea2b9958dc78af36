import ArgumentParser
import CFabricLinux
import FabricCommandLine
import FabricHostDevices
import FabricPlatform
import FabricStorage
import FoundationEssentials

struct List: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Lists the volumes that are devices of this machine.",
    discussion: """
      What a process has left that died is cleaned up, and said. The state is connecting, \
      attached, failing (requests end with I/O errors until there is a path), failed (they do for \
      good) or detaching.
      """)

  @Flag(name: .long, help: "Reports as JSON.") var json = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where devices are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  func run() async {
    await reporting {
      let directory = try StateDirectory(stateDir)
      var found: [DeviceStatus] = []
      var failure: ToolFailure?
      for entry in try directory.livingEntries() {
        do throws(ToolFailure) {
          if let status = try entry.status() { found.append(status) }
        } catch {
          // One that has ended meanwhile is none.
          guard entry.isAlive else { continue }
          if let failure { Output.error("error: \(failure.words)") }
          failure = error
        }
      }
      if json {
        Output.line(JSON.list(found.map(\.json)).description)
      } else {
        for status in found { status.describe() }
      }
      // A device that is missing from the list is not to go unseen.
      if let failure { throw failure }
    }
  }
}

struct Detach: AsyncParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Ends devices that attach has made.",
    discussion: """
      What was written is flushed first. A device that is mounted or held open is refused, and a \
      socket that a machine is connected to. With --force it goes without a flush: who uses it gets \
      I/O errors, and what was not flushed may be lost.
      """)

  @Argument(help: "Devices, such as /dev/loop3, sockets, or their names.")
  var devices: [String] = []
  @Flag(name: .long, help: "All of them.") var all = false
  @Flag(name: .long, help: "Also those in use, and without a flush.") var force = false
  @Option(
    name: .long,
    help: ArgumentHelp(
      "Where devices are written down: /run/channelfabric for root.", valueName: "DIR"))
  var stateDir: String?

  func validate() throws {
    guard devices.isEmpty == all else {
      throw ValidationError(
        all ? "expected devices or --all, got both" : "expected a device, a name or --all, got none"
      )
    }
  }

  func run() async {
    await reporting {
      let directory = try StateDirectory(stateDir)
      let living = try directory.livingEntries()
      let chosen =
        all ? living : try devices.map { try Self.entry($0, of: living) }
      var failure: ToolFailure?
      for entry in chosen {
        do throws(ToolFailure) {
          let request = ControlRequest("detach", force: force)
          let status = try entry.ask(request, seconds: nil).get()
          if let status { Self.waitForEnd(of: status.processIdentifier) }
          Output.line("detached \(status?.device ?? entry.name)")
        } catch {
          if let failure { Output.error("error: \(failure.words)") }
          failure = error
        }
      }
      if let failure { throw failure }
    }
  }

  /// Its last answer comes just before a process's end.
  private static func waitForEnd(of process: Int32) {
    guard let watched = try? Descriptor(result: fabric_pidfd_open(process)) else { return }
    _ = ControlPacket.wait(on: watched.rawValue, seconds: 10)
  }

  static func entry(
    _ text: String, of entries: [StateEntry]
  ) throws(ToolFailure) -> StateEntry {
    if let entry = entries.first(where: { $0.name == text }) { return entry }
    for entry in entries {
      if let device = entry.readRecord()?.device, FileKind.areSame(device, text) { return entry }
    }
    let known = entries.map { entry in
      entry.readRecord()?.device.map { "\(entry.name) (\($0))" } ?? entry.name
    }
    throw ToolFailure(
      66,
      "expected a device that is attached, got \(text); "
        + (known.isEmpty ? "none is" : "there are \(known.joined(separator: ", "))"))
  }
}

extension StateDirectory {
  /// What is attached; of what is not any more the rest is removed, and said.
  func livingEntries() throws -> [StateEntry] {
    var isDirectory = false
    if FileManager.default.fileExists(atPath: path, isDirectory: &isDirectory), !isDirectory {
      throw ToolFailure(66, "expected --state-dir to name a directory, got \(path)")
    }
    var living: [StateEntry] = []
    for entry in entries {
      guard !entry.isAlive else {
        living.append(entry)
        continue
      }
      if let words = try locked({ try entry.cleanUpIfDead() }) { Output.error(words) }
    }
    return living
  }
}

extension DeviceStatus {
  var json: JSON {
    func text(_ value: String?) -> JSON { value.map { .text($0) } ?? .null }
    func whole(_ value: Int) -> JSON { .whole(UInt64(value)) }
    let device: [(String, JSON)] = [
      ("name", text(name)), ("device", text(self.device)), ("kind", text(kind)),
      ("url", text(url)), ("byteCount", .whole(byteCount)),
      ("blockByteCount", .whole(UInt64(blockByteCount))), ("readOnly", .flag(isReadOnly)),
      ("state", text(state)), ("reason", text(reason)),
    ]
    let processes: [(String, JSON)] = [
      ("pid", whole(Int(processIdentifier))),
      ("guardPID", guardProcessIdentifier.map { whole(Int($0)) } ?? .null),
      ("log", text(log)), ("file", text(file)),
    ]
    let asked: [(String, JSON)] = [
      ("reads", .whole(figures.reads)), ("readBytes", .whole(figures.readBytes)),
      ("writes", .whole(figures.writes)), ("writeBytes", .whole(figures.writeBytes)),
      ("flushes", .whole(figures.flushes)), ("zeroings", .whole(figures.zeroings)),
      ("errors", .whole(figures.errors)), ("inFlight", whole(figures.inFlight)),
      ("reconnects", whole(figures.reconnects)),
    ]
    return .object(device + processes + asked + [("paths", .list(paths.map(\.json)))])
  }

  func describe() {
    Output.line("\(device ?? "no device yet")  \(name), \(kind)")
    if paths.count < 2 { Output.line("  volume  \(url)") }
    for path in paths where paths.count > 1 {
      Output.line("  path    \(path.url), \(path.standing)\(path.reason.map { ": \($0)" } ?? "")")
    }
    Output.line(
      "  size    \(ByteSize.describe(byteCount)) in blocks of \(blockByteCount)"
        + (isReadOnly ? ", read-only" : ""))
    Output.line("  state   \(state)\(reason.map { ": \($0)" } ?? ""), process \(processIdentifier)")
    Output.line(
      "  asked   \(figures.reads) reads of \(ByteSize.describe(figures.readBytes)), "
        + "\(figures.writes) writes of \(ByteSize.describe(figures.writeBytes)), "
        + "\(figures.flushes) flushes, \(figures.zeroings) zeroings, \(figures.errors) errors, "
        + "\(figures.inFlight) in flight")
  }
}
