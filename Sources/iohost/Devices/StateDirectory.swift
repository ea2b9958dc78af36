import CFabricLinux
import FabricCommandLine
import FabricHostDevices
import FabricIOProtocol
import FabricPlatform
import FoundationEssentials

/// Where the devices of this machine are written down, each in a directory of its own, for the commands
/// that are to find them.
struct StateDirectory {
  let path: String

  /// - Parameter option: of `--state-dir`; nil: `/run/channelfabric` for root, for others
  ///   `channelfabric` where their session keeps such things.
  init(_ option: String?) throws(ToolFailure) {
    if let option {
      guard !option.isEmpty else {
        throw ToolFailure(64, "expected --state-dir with a directory, got nothing")
      }
      path = FileKind.absolutePath(option)
    } else if geteuid() == 0 {
      path = "/run/channelfabric"
    } else if let base = unsafe getenv("XDG_RUNTIME_DIR").map({ unsafe String(cString: $0) }) {
      path = "\(base)/channelfabric"
    } else {
      throw ToolFailure(
        66,
        "expected XDG_RUNTIME_DIR to name a directory of this session, found none; give "
          + "--state-dir")
    }
  }

  /// The devices that are written down, in order of their names. What else is in the directory is others'.
  var entries: [StateEntry] {
    let names = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    return names.sorted().map { StateEntry(directory: self, name: $0) }.filter(\.isOurs)
  }

  /// Runs `body` while no other process makes or removes entries.
  func locked<Result>(_ body: () throws -> Result) throws -> Result {
    let directory = try open()
    while fabric_lock_file(directory.rawValue) != 0 {
      guard Errno.current == .interrupted else { throw failure("lock", .current) }
    }
    return try body()
  }

  private func open() throws(ToolFailure) -> Descriptor {
    if unsafe mkdir(path, 0o700) != 0, Errno.current != .fileExists {
      throw failure("make", .current)
    }
    do throws(Errno) {
      return try Descriptor(
        result: unsafe fabric_open_existing(path, O_RDONLY | CInt(O_DIRECTORY)))
    } catch { throw failure("open", error) }
  }

  private func failure(_ what: String, _ error: Errno) -> ToolFailure {
    ToolFailure(
      66, "expected to \(what) the directory \(path), got \"\(error)\"; give another --state-dir")
  }

  /// Makes the entry of a new device, which is this process's until it ends.
  ///
  /// - Parameters:
  ///   - name: wanted by who asked; a taken one is refused.
  ///   - proposal: where nothing was wanted: with a number behind it when it is taken.
  func claim(name: String?, proposal: String) throws -> ClaimedEntry {
    try locked {
      var candidate = name ?? proposal
      var number = 1
      while true {
        let entry = StateEntry(directory: self, name: candidate)
        if let cleaned = try entry.cleanUpIfDead() { Output.error(cleaned) }
        if unsafe mkdir(entry.path, 0o700) == 0 { return try ClaimedEntry(entry) }
        guard Errno.current == .fileExists else { throw failure("write to", .current) }
        guard name == nil else {
          throw ToolFailure(
            64,
            entry.isOurs
              ? "expected a --name that no device has, but \"\(candidate)\" is attached; choose "
                + "another, or detach that first"
              : "expected a --name that is free, but \(entry.path) is there and is no device's; choose another"
          )
        }
        number += 1
        candidate = "\(proposal)-\(number)"
      }
    }
  }
}

extension StateDirectory {
  /// Makes the entry of a device, whose process has died, this process's. (HD-65)
  func adopt(name: String) throws -> ClaimedEntry {
    try locked { try ClaimedEntry(adopting: StateEntry(directory: self, name: name)) }
  }
}

/// The directory of one device.
struct StateEntry {
  let directory: StateDirectory
  let name: String

  var path: String { "\(directory.path)/\(name)" }
  /// Where the process that serves the device listens to commands.
  var socket: String { "\(path)/control" }
  var log: String { "\(path)/log" }
  /// Where the volume's file is mounted.
  var mountPoint: String { "\(path)/file" }
  fileprivate var lock: String { "\(path)/lock" }
  fileprivate var record: String { "\(path)/device.json" }
  /// Locked by the process that watches over a device's, while it is to start that anew.
  fileprivate var recovery: String { "\(path)/recovery" }
  /// Whether it is what a process of ours has made: it has the lock, and nothing that we do not put there. Anything
  /// else of that name is left alone.
  var isOurs: Bool {
    let names = try? FileManager.default.contentsOfDirectory(atPath: path)
    guard let names, names.contains("lock") else { return false }
    let known = [socket, log, lock, record, recovery, mountPoint].map {
      $0.dropFirst(path.count + 1)
    }
    return names.allSatisfy { known.contains($0[...]) || Self.isPart($0) }
  }

  /// What is left of a record whose writing was cut short.
  private static func isPart(_ name: String) -> Bool { name.hasPrefix(".dat") }

  /// The log of a process that died, kept for who looks for the reason.
  private var lastLog: String { "\(directory.path)/\(name).log" }

  /// What is written down of a device.
  struct Record: Codable {
    var name: String
    var url: String
    /// What the device tells of itself, to be recognised by.
    var token: String
    var device: String?
    var processIdentifier: Int32
    /// The session of all processes that serve the device, one after the other: two numbers.
    var session = [UInt64.random(in: 0...(.max)), UInt64.random(in: 0...(.max))]
    /// Greater than the epoch of any connection that the session has had: the next process begins with it.
    var nextEpoch: UInt32 = 1
    /// Of the process, where it is to be started anew when it dies, and where it was started.
    var arguments: [String]?
    var directory: String?

    var hostSession: HostOpening.SessionIdentifier? {
      session.count == 2 ? .init(high: session[0], low: session[1]) : nil
    }
  }

  func readRecord() -> Record? {
    guard let data = FileManager.default.contents(atPath: record) else { return nil }
    return try? JSONDecoder().decode(Record.self, from: data)
  }

  func write(_ contents: Record) throws {
    try JSONEncoder().encode(contents).write(to: URL(filePath: record), options: .atomic)
  }

  /// Whether the process that made it lives: it holds the lock. One that is to be started anew counts
  /// as alive.
  var isAlive: Bool { Self.isLocked(lock) || Self.isLocked(recovery) }

  private static func isLocked(_ path: String) -> Bool {
    guard let file = try? Descriptor(result: unsafe fabric_open_existing(path, O_RDWR)) else {
      return false
    }
    return fabric_try_lock_file(file.rawValue) != 0
  }

  /// Keeps others from cleaning up until the descriptor is closed: waits until nobody else does.
  func holdForRecovery() throws(Errno) -> Descriptor {
    let file = try Descriptor(result: unsafe fabric_open_lock(recovery))
    let number = file.rawValue
    while fabric_lock_file(number) != 0 {
      guard Errno.current == .interrupted else { throw .current }
    }
    return file
  }

  /// Removes what a process has left that died: the device, unless it is in use, the mount and the
  /// entry. To be called under the directory's lock. (HD-32)
  ///
  /// - Returns: what was done, for people; nil when there was nothing to do.
  func cleanUpIfDead() throws -> String? {
    guard isOurs, !isAlive else { return nil }
    let record = readRecord()
    let mounted = FileMount.source(at: mountPoint)
    let server = record.flatMap {
      Self.isServing($0.processIdentifier) ? $0.processIdentifier : nil
    }
    // The lock is gone, and the process is not: it has a file here, or listens.
    if server != nil, mounted != nil || FileKind.isSocket(socket) { return nil }
    var words = "cleaned up \(name)"
    if let server {
      words += ": process \(server), which it names, lives and has its device elsewhere"
    } else {
      if let record { words += ": process \(record.processIdentifier), which served it, has died" }
      for device in (record?.token ?? mounted).map(Self.devices) ?? [] {
        let users = DeviceUsers.find(device.path)
        device.abandon()
        if device.isBound {
          words +=
            "; \(device.path) answers with I/O errors and goes when it is not used any more: it is "
            + (users.isEmpty ? "held open" : users.joined(separator: ", and "))
        }
      }
      if let device = record?.device { VhostUserVolume.removeLeftSocket(at: device) }
    }
    unsafe rename(log, lastLog)
    try remove()
    return words
  }

  /// Whether a number is that of a living process of this program's.
  private static func isServing(_ process: Int32) -> Bool {
    guard let data = FileManager.default.contents(atPath: "/proc/\(process)/stat") else {
      return false
    }
    // Number, name in brackets, state.
    let fields = String(decoding: data, as: UTF8.self).split(separator: " ")
    return fields.count > 2 && fields[1] == "(iohost)" && fields[2] != "Z"
  }

  /// The devices that were made with a token, of whichever end.
  static func devices(_ token: String) -> [any HostBlockDevice] {
    UBLKDevice.bound(with: token) + NBDDevice.bound(with: token) + LoopDevice.bound(with: token)
  }

  /// Removes the mount, if it is there, and the entry.
  func remove() throws {
    try FileMount.unmount(mountPoint)
    let parts = (try? FileManager.default.contentsOfDirectory(atPath: path)) ?? []
    for part in parts where Self.isPart(part) { FileKind.remove("\(path)/\(part)") }
    for file in [socket, log, lock, record, recovery] { FileKind.remove(file) }
    unsafe rmdir(mountPoint)
    unsafe rmdir(path)
  }
}

/// An entry that this process has made and holds until it ends or removes it.
final class ClaimedEntry {
  let entry: StateEntry
  /// Where the process was started.
  let startDirectory = FileManager.default.currentDirectoryPath
  private let lock: Descriptor

  fileprivate init(adopting entry: StateEntry) throws {
    self.entry = entry
    lock = try Descriptor(result: unsafe fabric_open_existing(entry.lock, O_RDWR))
    guard fabric_try_lock_file(lock.rawValue) == 0 else {
      throw ToolFailure(64, "expected the process of \(entry.name) to be dead, but it lives")
    }
    FileKind.remove(entry.socket)
  }

  fileprivate init(_ entry: StateEntry) throws {
    self.entry = entry
    do {
      lock = try Descriptor(result: unsafe fabric_open_lock(entry.lock))
      guard fabric_try_lock_file(lock.rawValue) == 0, unsafe mkdir(entry.mountPoint, 0o700) == 0
      else { throw Errno.current }
    } catch {
      try? entry.remove()
      throw ToolFailure(66, "expected to write to \(entry.path), got \"\(error)\"")
    }
  }

  /// What is said from now on goes to the device's log.
  func redirectOutput() throws(ToolFailure) {
    let number = unsafe fabric_open_log(entry.log)
    guard number >= 0 else {
      throw ToolFailure(66, "expected to write \(entry.log), got \"\(Errno.current)\"")
    }
    dup2(number, 1)
    dup2(number, 2)
    close(number)
  }

  func remove() {
    do {
      try entry.directory.locked { try entry.remove() }
    } catch { Output.error("\(error)") }
  }
}
