import Foundation
import Testing

/// A unit, and devices of its volumes that go with the test.
final class LoopPlace {
  let place = try! Place()
  private(set) var unit: Tool?
  private let volumes: [String]
  private let isOverTCP: Bool
  /// Further addresses of the unit.
  private let listens: [String]
  private var port = "0"

  /// What this machine lacks for devices; empty: nothing.
  static let lacks: String = {
    if getuid() != 0 { return "devices want root" }
    for path in ["/dev/fuse", "/dev/loop-control"]
    where !FileManager.default.fileExists(atPath: path) {
      return "\(path) is missing"
    }
    for program in ["fio", "mkfs.ext4", "mkfs.xfs", "blkdiscard", "losetup"] {
      let paths = ["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map { "\($0)/\(program)" }
      if !paths.contains(where: FileManager.default.isExecutableFile) {
        return "\(program) is missing: apt-get install fio xfsprogs e2fsprogs util-linux"
      }
    }
    return ""
  }()

  static var isPossible: Bool { lacks.isEmpty }

  /// - Parameter volumes: as `iounit` takes them; `%` stands for the place's directory.
  init(_ volumes: String..., isOverTCP: Bool = false, listens: [String] = []) throws {
    let path = place.path
    self.listens = listens
    self.volumes = volumes.map { $0.replacingOccurrences(of: "%", with: path) }
    self.isOverTCP = isOverTCP
    try serve()
  }

  deinit {
    unmountAll()
    // Not `--force` first: a test that leaves a device in use is to be seen.
    if let tool = try? Tool(
      "iohost", ["detach", "--all", "--force", "--state-dir", stateDirectory])
    {
      tool.waitForEnd(limit: 20)
    }
    unit?.signal(SIGKILL)
  }

  private func unmountAll() {
    let mounts = (try? String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)) ?? ""
    for line in mounts.split(separator: "\n") {
      let words = line.split(separator: " ")
      if words.count > 4, words[4] == Substring(file("mnt")) { _ = unsafe umount2(file("mnt"), 2) }
    }
  }

  var stateDirectory: String { place.file("state") }
  func file(_ name: String) -> String { place.file(name) }

  func url(_ volume: String) -> String {
    isOverTCP ? "fabric+tcp://127.0.0.1:\(port)/\(volume)" : place.url(volume)
  }

  /// Starts the unit, again at the address that it had.
  func serve() throws {
    let unit = try place.serve(
      volumes[0], listen: isOverTCP ? "tcp:127.0.0.1:\(port)" : nil,
      options: volumes.dropFirst().flatMap { ["--volume", $0] }
        + listens.flatMap { ["--listen", $0] })
    port = String(try #require(unit.output.first?.split(separator: ":").last, "\(unit.errors)"))
    self.unit = unit
  }

  func killUnit() {
    unit?.signal(SIGKILL)
    unit?.waitForEnd()
  }

  /// Runs a device command to its end.
  func host(_ arguments: String..., limit: Double = 30) throws -> Tool {
    let tool = try Tool("iohost", arguments + ["--state-dir", stateDirectory])
    tool.waitForEnd(limit: limit)
    return tool
  }

  /// Attaches a volume and returns the device.
  func attach(_ volume: String, _ options: String...) throws -> String {
    let tool = try Tool(
      "iohost",
      ["attach", url(volume), "--as", "loop", "--state-dir", stateDirectory] + options)
    try #require(tool.waitForEnd(limit: 30) == 0, "\(tool.errors)")
    return try #require(tool.output.first)
  }

  /// Of the only device.
  func status() throws -> [String: Any] {
    let tool = try host("list", "--json")
    let list = try JSONSerialization.jsonObject(with: Data(tool.output.joined().utf8))
    return try #require((list as? [[String: Any]])?.first, "\(tool.output) \(tool.errors)")
  }

  /// Runs a script that must succeed, and returns what it printed.
  @discardableResult
  func shell(
    _ script: String, limit: Double = 60, location: SourceLocation = #_sourceLocation
  ) throws -> [String] {
    let tool = try Tool(shell: "set -ex -o pipefail; cd \(place.path); \(script)")
    let code = tool.waitForEnd(limit: limit)
    #expect(code == 0, "\(tool.output) \(tool.errors)", sourceLocation: location)
    return tool.output
  }

  /// Waits until `condition` holds; false after `limit` seconds.
  func waits(limit: Double = 10, _ condition: () throws -> Bool) rethrows -> Bool {
    let end = Date(timeIntervalSinceNow: limit)
    while Date.now < end {
      if try condition() { return true }
      usleep(10_000)
    }
    return false
  }

  /// Loop devices that are bound to a file of this place.
  func boundDevices() throws -> [String] {
    try FileManager.default.contentsOfDirectory(atPath: "/sys/block").filter { name in
      let backing = try? String(
        contentsOfFile: "/sys/block/\(name)/loop/backing_file", encoding: .utf8)
      return backing?.hasPrefix(stateDirectory) == true
    }
  }

  func isBound(_ device: String) -> Bool {
    FileManager.default.fileExists(atPath: "/sys/block/\(device.dropFirst(5))/loop")
  }

  /// Nothing of the device is left: no mount, no bound loop device, no entry, no process.
  func expectNothingLeft(
    of processes: [Int], location: SourceLocation = #_sourceLocation
  ) throws {
    let mounts = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
    #expect(!mounts.contains(stateDirectory), sourceLocation: location)
    #expect(try boundDevices().isEmpty, sourceLocation: location)
    let entries = try FileManager.default.contentsOfDirectory(atPath: stateDirectory)
    // The log of a process that died is kept.
    #expect(entries.filter { !$0.hasSuffix(".log") }.isEmpty, sourceLocation: location)
    for process in processes {
      let state = try? String(contentsOfFile: "/proc/\(process)/stat", encoding: .utf8)
      let isGone = state.map { $0.contains(") Z ") } ?? true
      #expect(isGone, "process \(process) is there: \(state ?? "")", sourceLocation: location)
    }
  }

  /// The processes of the only device.
  func processes() throws -> (worker: Int, other: Int) {
    let status = try status()
    return (try #require(status["pid"] as? Int), try #require(status["guardPID"] as? Int))
  }
}
