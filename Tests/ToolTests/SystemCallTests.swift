import Foundation
import TestSupport
import Testing

@Suite("Tools, system calls") struct SystemCallTests {
  static let strace = "/usr/bin/strace"

  /// System calls and messages of a run of `fabperf rate`, both processes together.
  private func run(seconds: Int) throws -> (calls: Int, messages: Double) {
    let counts = FileManager.default.temporaryDirectory
      .appending(path: "fabric-strace-\(getpid())-\(seconds)")
    defer { try? FileManager.default.removeItem(at: counts) }
    let process = Process()
    process.executableURL = URL(filePath: Self.strace)
    process.arguments = [
      "-f", "-c", "-o", counts.path(), Tool.directory.appending(path: "fabperf").path(), "rate",
      "--size", "64", "--seconds", "\(seconds)", "--json",
    ]
    let output = Pipe()
    process.standardOutput = output
    try process.run()
    let json = try output.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    try #require(process.terminationStatus == 0, "\(String(decoding: json, as: UTF8.self))")
    let report = try #require(try JSONSerialization.jsonObject(with: json) as? [String: Any])
    let rate = try #require(report["messagesPerSecond"] as? Double)
    let table = try String(contentsOf: counts, encoding: .utf8)
    let total = try #require(
      table.split(separator: "\n").last { $0.hasSuffix("total") }?
        .split(separator: " ").compactMap { Int($0) }.first { $0 > 1000 })
    return (total, rate * Double(seconds))
  }

  /// What a longer run adds is the steady state: connection events are looked for every
  /// millisecond, the clock is read without a call, and messages need none.
  @Test(
    "a message through the messaging layer makes no system call in the steady state",
    .enabled(
      if: FileManager.default.isExecutableFile(atPath: SystemCallTests.strace),
      "strace is not installed"), .untilStuck)
  func noneEach() throws {
    // Beside other tests the longer run may be so much slower that it has hardly more messages.
    var messages = 0.0
    var calls = 0.0
    for _ in 0..<5 where messages <= 100_000 {
      let short = try run(seconds: 1)
      let long = try run(seconds: 3)
      messages = long.messages - short.messages
      calls = Double(long.calls - short.calls)
    }
    #expect(messages > 100_000)
    #expect(calls < messages / 20, "\(calls) calls for \(messages) messages")
  }
}
