import CFabricLinux
import FabricCommandLine
import FabricNIC
import FabricPlatform
import FoundationEssentials
import Glibc

/// Where the interfaces of this network namespace are written down, each in files that begin with the namespace's
/// number and its name. (NI-40)
struct NICDirectory {
  let path: String
  private let namespace = NetworkInterface.namespace

  /// - Parameter option: of `--state-dir`.
  init(_ option: String?) throws(ToolFailure) { path = "\(try StateDirectory(option).path)/nic" }

  /// In order of their names.
  ///
  /// - Throws: with code 66 when the directory may not be read; one that is not there has none.
  func entries() throws(ToolFailure) -> [NICEntry] {
    let files: [String]
    do { files = try FileManager.default.contentsOfDirectory(atPath: path) } catch {
      guard unsafe access(path, R_OK) != 0, Errno.current != .noSuchFileOrDirectory else {
        return []
      }
      throw ToolFailure(66, "expected to read \(path), got \"\(Errno.current)\"")
    }
    let start = "\(namespace)."
    let end = ".json"
    return files.filter { $0.hasPrefix(start) && $0.hasSuffix(end) }
      .map { entry(named: String($0.dropFirst(start.count).dropLast(end.count))) }
      .sorted { $0.name < $1.name }
  }

  func entry(named name: String) -> NICEntry {
    NICEntry(name: name, start: "\(path)/\(namespace).\(name)")
  }

  /// An interface that is written down.
  func entry(_ name: String) throws(ToolFailure) -> NICEntry {
    let known = try entries()
    if let entry = known.first(where: { $0.name == name }) { return entry }
    let names = known.map(\.name).joined(separator: ", ")
    throw ToolFailure(
      66,
      "expected an interface that is attached, got \(name); "
        + (names.isEmpty ? "none is in this network namespace" : "there are \(names)"))
  }

  /// Makes this process the one that serves an interface, until it ends.
  ///
  /// - Returns: the lock, which is its while it is open.
  func claim(_ entry: NICEntry) throws -> Descriptor {
    while true {
      let lock = try makeLock(of: entry)
      guard fabric_try_lock_file(lock.rawValue) == 0 else {
        throw ToolFailure(
          64,
          "expected an interface that is not attached, but \(entry.name) is; detach it, or give another "
            + "--name")
      }
      // Who detached meanwhile has removed the file, and another may have been made: its lock is worth nothing here.
      if isFile(lock, at: entry.lock) { return lock }
    }
  }

  private func isFile(_ file: borrowing Descriptor, at path: String) -> Bool {
    var own = stat()
    var there = stat()
    guard unsafe fstat(file.rawValue, &own) == 0, unsafe stat(path, &there) == 0 else {
      return false
    }
    return own.st_ino == there.st_ino && own.st_dev == there.st_dev
  }

  /// Whoever takes away the last entry takes away the directory, too, perhaps between these steps.
  private func makeLock(of entry: NICEntry) throws(ToolFailure) -> Descriptor {
    var error = Errno.noSuchFileOrDirectory
    for _ in 0..<10 where error == .noSuchFileOrDirectory {
      for directory in [String(path.dropLast("/nic".count)), path]
      where unsafe mkdir(directory, 0o700) != 0 && Errno.current != .fileExists {
        throw ToolFailure(
          66,
          "expected to make the directory \(directory), got \"\(Errno.current)\"; give --state-dir")
      }
      do throws(Errno) {
        return try Descriptor(result: unsafe fabric_open_lock(entry.lock))
      } catch let refusal { error = refusal }
    }
    throw ToolFailure(66, "expected to write \(entry.lock), got \"\(error)\"; give --state-dir")
  }
}

/// What is written down of one interface.
struct NICEntry {
  let name: String
  let start: String

  var socket: String { "\(start).control" }
  var log: String { "\(start).log" }
  var lock: String { "\(start).lock" }
  var record: String { "\(start).json" }

  struct Record: Codable {
    var url: String
    var processIdentifier: Int32
    /// It was there before: it stays.
    var wasThere: Bool
  }

  func readRecord() -> Record? {
    guard let data = FileManager.default.contents(atPath: record) else { return nil }
    return try? JSONDecoder().decode(Record.self, from: data)
  }

  func write(_ contents: Record) throws {
    try JSONEncoder().encode(contents).write(to: URL(filePath: record), options: .atomic)
  }

  /// Whether its process lives: it holds the lock.
  var isAlive: Bool {
    guard let file = try? Descriptor(result: unsafe fabric_open_existing(lock, O_RDWR)) else {
      return false
    }
    return fabric_try_lock_file(file.rawValue) != 0
  }

  /// Removes what is written down, and the directory with the last entry.
  func remove() {
    for file in [socket, log, record, lock] { FileKind.remove(file) }
    unsafe rmdir(String(start.prefix(upTo: start.lastIndex(of: "/") ?? start.endIndex)))
  }

  /// Gives the files the name of another entry, of which there are none.
  func rename(to other: NICEntry) {
    for (old, new) in zip(
      [socket, log, lock, record], [other.socket, other.log, other.lock, other.record])
    { unsafe Glibc.rename(old, new) }
  }

  // MARK: Asking its process

  func ask(_ request: NICRequest) throws(ToolFailure) -> NICAnswer {
    let connection: SequencedSocket
    do throws(Errno) {
      connection = try SequencedSocket.connect(to: socket)
      try connection.send(ControlPacket.encode(request))
    } catch {
      throw ToolFailure(
        69,
        isAlive
          ? "expected the process that serves \(name) to listen at \(socket), got \"\(error)\"; see \(log)"
          : "the process that served \(name) has died; attach it again, or detach it")
    }
    guard ControlPacket.wait(on: connection.descriptor.rawValue, seconds: 10),
      let answer = ControlPacket.receive(NICAnswer.self, on: connection)
    else {
      throw ToolFailure(
        75, "expected the process that serves \(name) to answer, but it did not; see \(log)")
    }
    return answer
  }

  /// Of a process, or of an interface whose process has died.
  func statusOfAny() -> NICStatus {
    if let status = try? ask(NICRequest("status")).get() { return status }
    let record = readRecord()
    var status = NICStatus(
      name: name, url: record?.url ?? "", state: "dead",
      processIdentifier: record?.processIdentifier ?? 0, log: log)
    status.reason = "its process has died: attach it again, or detach it"
    return status
  }

  /// Ends the process in order, or takes away what one has left that died.
  func detach() throws {
    if isAlive {
      _ = try ask(NICRequest("detach")).get()
      return
    }
    if let record = readRecord(), !record.wasThere, let interface = try? NetworkInterface(name),
      interface.exists
    {
      try FramePort.tap(interface, queueCount: 1).remove()
    }
    remove()
  }
}
