import Foundation
public import Testing

/// The Linux that `Tests/Guest/guest` starts: it has kernel modules, and network cards of its own.
///
/// A suite whose name ends with `GuestTests` and that is `.enabled(if: Guest.isHere, Guest.comment)` is run there by
/// `Tests/Guest/suite`, as root, and skipped elsewhere.
public enum Guest {
  /// Whether this process runs in it.
  public static let isHere = ProcessInfo.processInfo.environment["CHANNELFABRIC_GUEST"] != nil

  /// Whether soft-iWARP can be loaded: it has to be built, which `prepare siw` does.
  public static let hasSIW =
    ProcessInfo.processInfo.environment["CHANNELFABRIC_GUEST"].map {
      FileManager.default.fileExists(atPath: "\($0)/siw-crc/siw.ko")
    } ?? false

  /// Of its first network card, eth0.
  public static let address = "10.0.2.15"

  /// Why a test is skipped elsewhere; `Tests/run.sh` knows these words.
  public static let comment: Comment = "runs in the guest, by Tests/Guest/suite"

  /// What a command of the shell said, and how it ended.
  public struct Outcome: Sendable {
    public let status: Int32
    /// Of both streams.
    public let output: String
  }

  /// Runs `script` in bash, with the words of `Tests/Guest/devices`: `rxe_up rxe0 eth0`. It ends at the first
  /// command that fails. Waits for its end, and for that of all that holds its output.
  @discardableResult
  public static func shell(_ script: String) throws -> Outcome {
    let process = Process()
    let devices = URL(filePath: #filePath).deletingLastPathComponent()
      .appending(path: "../Guest/devices").path
    process.executableURL = URL(filePath: "/bin/bash")
    process.arguments = ["-c", "set -e; . '\(devices)'; \(script)"]
    process.standardInput = FileHandle.nullDevice
    let pipe = Pipe()
    process.standardOutput = pipe
    process.standardError = pipe
    try process.run()
    let bytes = try pipe.fileHandleForReading.readToEnd() ?? Data()
    process.waitUntilExit()
    return Outcome(
      status: process.terminationStatus, output: String(decoding: bytes, as: UTF8.self))
  }
}
