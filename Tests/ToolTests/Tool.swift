import Foundation
import Synchronization
import Testing

/// One of our programs as a process of its own, its output line by line.
final class Tool: Sendable {
  private struct State {
    var output: [String] = []
    var errors: [String] = []
    var openStreamCount = 2
  }

  private let process: Process
  private let state = Mutex(State())
  private let changed = DispatchSemaphore(value: 0)
  /// Held while a process is started: another that is started meanwhile would inherit its streams,
  /// and its end would be noticed only when both have ended.
  private static let starting = NSLock()

  /// Starts `name` with `arguments`.
  convenience init(_ name: String, _ arguments: [String]) throws {
    try self.init(Self.directory.appending(path: name), arguments)
  }

  /// Starts a script of the shell, in which `$bin` is where the programs lie.
  convenience init(shell script: String) throws {
    try self.init(
      URL(filePath: "/bin/bash"), ["-c", "bin='\(Self.directory.path)'; \(script)"])
  }

  private init(_ program: URL, _ arguments: [String]) throws {
    process = Process()
    process.executableURL = program
    process.arguments = arguments
    let (output, errors) = try Self.starting.withLock {
      let (output, errors) = (Pipe(), Pipe())
      process.standardInput = FileHandle.nullDevice
      process.standardOutput = output
      process.standardError = errors
      try process.run()
      return (output, errors)
    }
    collect(output) { $0.output.append($1) }
    collect(errors) { $0.errors.append($1) }
  }

  deinit { if process.isRunning { kill(process.processIdentifier, SIGKILL) } }

  /// Where the programs lie: beside the test bundle.
  static let directory: URL = {
    let bundle = CommandLine.arguments.first { $0.hasSuffix(".xctest") } ?? CommandLine.arguments[0]
    return URL(filePath: bundle).deletingLastPathComponent()
  }()

  private func collect(_ pipe: Pipe, _ add: @escaping @Sendable (inout State, String) -> Void) {
    let handle = pipe.fileHandleForReading
    Thread.detachNewThread { [weak self] in
      var rest = Data()
      while true {
        let data = Self.nextBytes(of: handle)
        rest += data
        while let end = rest.firstIndex(of: 10) {
          let line = String(decoding: rest[rest.startIndex..<end], as: UTF8.self)
          rest = rest[(end + 1)...]
          self?.state.withLock { add(&$0, line) }
          self?.changed.signal()
        }
        if data.isEmpty { break }
      }
      self?.state.withLock { $0.openStreamCount -= 1 }
      self?.changed.signal()
    }
  }

  /// What has come, or waits for it; empty at the end. A signal for another test's sake does not end
  /// the wait, as it would end the whole run inside `availableData`.
  private static func nextBytes(of handle: FileHandle) -> Data {
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
      let count = unsafe read(handle.fileDescriptor, &buffer, buffer.count)
      if count >= 0 { return Data(buffer.prefix(count)) }
      if errno != EINTR { return Data() }
    }
  }

  var processIdentifier: Int32 { process.processIdentifier }
  var output: [String] { state.withLock { $0.output } }
  var errors: [String] { state.withLock { $0.errors } }

  /// Waits for a line that holds all of `texts` on either stream; false when the process ends without, or
  /// after `limit` seconds.
  func waits(for texts: String..., limit: Double = 20) -> Bool {
    let end = Date(timeIntervalSinceNow: limit)
    while true {
      let (found, isOver) = state.withLock { state in
        (
          (state.output + state.errors).contains { line in texts.allSatisfy { line.contains($0) } },
          state.openStreamCount == 0
        )
      }
      if found { return true }
      if isOver || Date.now >= end { return false }
      _ = changed.wait(timeout: .now() + 0.2)
    }
  }

  /// Waits for the end and everything that was printed.
  ///
  /// - Returns: the exit code; for a signal its negative.
  @discardableResult
  func waitForEnd(limit: Double = 60) -> Int32 {
    let end = Date(timeIntervalSinceNow: limit)
    while process.isRunning || state.withLock({ $0.openStreamCount }) > 0, Date.now < end {
      _ = changed.wait(timeout: .now() + 0.05)
    }
    if process.isRunning {
      kill(process.processIdentifier, SIGKILL)
      process.waitUntilExit()
      Issue.record("\(process.arguments ?? []) did not end within \(limit) s: \(errors)")
    }
    let code = process.terminationStatus
    return process.terminationReason == .uncaughtSignal ? -code : code
  }

  var isRunning: Bool { process.isRunning }

  func signal(_ number: Int32) { kill(process.processIdentifier, number) }
}

/// A directory that goes with the test, with a unit's socket in it.
final class Place {
  let path = NSTemporaryDirectory() + "fabric-tools-\(UUID().uuidString.prefix(8))"

  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String) -> String { "\(path)/\(name)" }
  func url(_ volume: String) -> String { "fabric+shm://\(path)/u.sock/\(volume)" }

  /// Starts a unit and waits until it is ready.
  func serve(
    _ volumes: String..., listen: String? = nil, options: [String] = []
  ) throws -> Tool {
    let unit = try Tool(
      "iounit",
      ["serve", "--listen", listen ?? "shm:\(path)/u.sock"]
        + volumes.flatMap { ["--volume", $0] } + options)
    #expect(unit.waits(for: "ready: "), "\(unit.errors)")
    return unit
  }

  /// Runs `iohost` to its end.
  func host(_ arguments: String..., limit: Double = 60) throws -> Tool {
    let tool = try Tool("iohost", arguments)
    tool.waitForEnd(limit: limit)
    return tool
  }
}
