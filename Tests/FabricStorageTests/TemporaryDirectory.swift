import FabricStorage
import Foundation

/// A directory that goes with the object.
final class TemporaryDirectory: Sendable {
  let path: String

  /// - Parameter parent: where; `/var/tmp` is on a disk wherever it can be.
  init(in parent: String = "/var/tmp") {
    path = "\(parent)/fabric-storage-\(VolumeIdentifier.random())"
    try! FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: false)
  }

  deinit { try? FileManager.default.removeItem(atPath: path) }

  func file(_ name: String = "volume") -> String { "\(path)/\(name)" }

  /// A file of zeroes that takes no space.
  func makeFile(_ name: String = "volume", byteCount: UInt64) -> String {
    precondition(FileManager.default.createFile(atPath: file(name), contents: nil))
    let handle = FileHandle(forWritingAtPath: file(name))!
    try! handle.truncate(atOffset: byteCount)
    try! handle.close()
    return file(name)
  }
}

/// A tmpfs of a given size, mounted for as long as the object lives. Root only.
final class SmallFileSystem: Sendable {
  private let directory = TemporaryDirectory()
  var path: String { directory.path }

  init(byteCount: Int) {
    Machine.run("mount", "-t", "tmpfs", "-o", "size=\(byteCount)", "none", path)
  }

  deinit { Machine.run("umount", "-l", path) }
}

/// A file presented as a block device for as long as the object lives. Root only.
final class LoopDevice: Sendable {
  let path: String

  init(over file: String) {
    path = Machine.run("losetup", "--find", "--show", file)
  }

  deinit { Machine.run("losetup", "--detach", path) }

  /// Flushes that the device has completed.
  var flushCount: Int {
    let name = path.split(separator: "/").last!
    let text = try! String(contentsOfFile: "/sys/block/\(name)/stat", encoding: .utf8)
    return Int(text.split(whereSeparator: \.isWhitespace)[15])!
  }
}

/// What the machine allows the tests to do.
enum Machine {
  static let isRoot = NSUserName() == "root"
  static let hasSharedMemory = FileManager.default.isWritableFile(atPath: "/dev/shm")
  static let hasLoopDevices =
    isRoot && FileManager.default.fileExists(atPath: "/dev/loop-control")

  /// Runs a program, which must succeed, and returns what it printed.
  @discardableResult
  static func run(_ arguments: String...) -> String {
    let process = Process()
    let pipe = Pipe()
    process.executableURL = URL(fileURLWithPath: "/usr/bin/env")
    process.arguments = arguments
    process.standardOutput = pipe
    process.environment = ["PATH": "/usr/sbin:/sbin:/usr/bin:/bin"]
    try! process.run()
    let output = pipe.fileHandleForReading.readDataToEndOfFile()
    process.waitUntilExit()
    precondition(process.terminationStatus == 0, "\(arguments) failed")
    return String(decoding: output, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

/// Bytes of disk that a file takes.
func allocatedByteCount(_ path: String) -> Int {
  Int(Machine.run("stat", "--format=%b", path))! * 512
}
