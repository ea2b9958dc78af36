import FabricPlatform
import Foundation

/// A program that we did not write, or another of ours, run on one processor.
struct OtherProgram {
  let name: String
  var arguments: [String]
  var environment: [String: String] = [:]
  /// The processor it is bound to: the first or the second that there is.
  var processor: Int
  /// False for programs that see to their processors themselves.
  var isBound = true

  /// Whether it can be found.
  static func isInstalled(_ name: String) -> Bool { path(of: name) != nil }

  private static func path(of name: String) -> String? {
    if name.contains("/") { return FileManager.default.isExecutableFile(atPath: name) ? name : nil }
    let places = (ProcessInfo.processInfo.environment["PATH"] ?? "").split(separator: ":")
    return places.map { "\($0)/\(name)" }.first {
      FileManager.default.isExecutableFile(atPath: $0)
    }
  }

  private func process() throws -> Process {
    guard let path = Self.path(of: name) else { throw Failure("\(name) is not installed") }
    let process = Process()
    process.executableURL = URL(fileURLWithPath: isBound ? "/usr/bin/taskset" : path)
    process.arguments = (isBound ? ["-c", "\(processor)", path] : []) + arguments
    process.environment = ProcessInfo.processInfo.environment.merging(environment) { $1 }
    process.standardError = FileHandle.nullDevice
    return process
  }

  /// Starts it and lets it run beside; `stop` ends it.
  func start() throws -> Process {
    let process = try process()
    process.standardOutput = FileHandle.nullDevice
    try process.run()
    return process
  }

  /// Runs it to its end and returns what it printed.
  func output() throws -> String {
    let process = try process()
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    let bytes = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    guard process.terminationStatus == 0 else {
      throw Failure("\(name) ended with status \(process.terminationStatus)")
    }
    return String(decoding: bytes, as: UTF8.self)
  }

  /// Starts it and waits until it prints a line that `isReady` knows.
  func start(until isReady: (String) -> Bool) throws -> Process {
    let process = try process()
    let pipe = Pipe()
    process.standardOutput = pipe
    try process.run()
    var text = ""
    while !isReady(text) {
      let bytes = pipe.fileHandleForReading.availableData
      guard !bytes.isEmpty else { throw Failure("\(name) ended before it was ready") }
      text += String(decoding: bytes, as: UTF8.self)
    }
    return process
  }

  /// Waits until somebody listens at a port of this machine.
  static func waitForListener(port: Int) throws {
    let deadline = MonotonicTime.now + .seconds(10)
    while MonotonicTime.now < deadline {
      // Looked at, not tried: some take one connection only.
      let line = String(format: ":%04X ", port)
      for file in ["/proc/net/tcp", "/proc/net/tcp6"] {
        let text =
          (try? String(
            decoding: FileHandle(forReadingFrom: URL(filePath: file))
              .readDataToEndOfFile(), as: UTF8.self)) ?? ""
        if text.split(separator: "\n").contains(where: { row in
          let fields = row.split(separator: " ")
          return fields.count > 3 && fields[3] == "0A" && (fields[1] + " ").hasSuffix(line)
        }) {
          return
        }
      }
      SystemThread.yield()
    }
    throw Failure("nobody listens at port \(port)")
  }

  /// Waits until somebody listens at a Unix socket: as with ports, looked at, not tried.
  static func waitForSocket(_ path: String) throws {
    let deadline = MonotonicTime.now + .seconds(10)
    while MonotonicTime.now < deadline {
      let text = try String(
        decoding: FileHandle(forReadingFrom: URL(filePath: "/proc/net/unix")).readDataToEndOfFile(),
        as: UTF8.self)
      // The flag of a socket that accepts (__SO_ACCEPTCON) is the fourth field.
      if text.split(separator: "\n").contains(where: { row in
        let fields = row.split(separator: " ")
        return fields.count > 7 && fields[7] == path && fields[3] == "00010000"
      }) {
        return
      }
      SystemThread.yield()
    }
    throw Failure("nobody listens at \(path)")
  }
}
