import FabricPlatform
import Foundation

/// What goes over the loopback interface, to and from one port, in a file that tshark reads.
public final class PacketCapture {
  private static let dumpcap = "/usr/bin/dumpcap"
  private static let tshark = "/usr/bin/tshark"
  /// Whether this machine and user can.
  public static let isPossible =
    FileManager.default.isExecutableFile(atPath: dumpcap)
    && FileManager.default.isExecutableFile(atPath: tshark) && CallingUser.id == 0
  public static let whyNot = "tshark is not installed, or this is not root, who may capture"

  private let process = Process()
  private let file: URL

  public struct TimeOut: Error, CustomStringConvertible {
    public let description: String
  }

  /// Begins; what goes on from now on is in the file. `nudge` makes a packet of that port.
  public init(port: UInt16, nudge: () -> Void) throws {
    file = FileManager.default.temporaryDirectory.appending(
      path: "fabric-capture-\(port)-\(UUID().uuidString.prefix(8)).pcap")
    process.executableURL = URL(filePath: Self.dumpcap)
    process.arguments = ["-q", "-P", "-i", "lo", "-f", "tcp port \(port)", "-w", file.path()]
    process.standardOutput = FileHandle.nullDevice
    process.standardError = FileHandle.nullDevice
    try process.run()
    // The header of 24 bytes is written once the interface is listened at.
    try wait("the capture begins") { byteCount >= 24 }
    nudge()
    try wait("a first packet is captured") { byteCount > 24 }
  }

  deinit {
    // It inherits the signals that its parent's thread blocks, and those that would end it in order
    // are among them. What it has captured is in the file without that.
    kill(process.processIdentifier, SIGKILL)
    try? FileManager.default.removeItem(at: file)
  }

  private var byteCount: Int {
    let values = try? FileManager.default.attributesOfItem(atPath: file.path())
    return values?[.size] as? Int ?? 0
  }

  private func wait(_ words: String, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(30)
    while try !condition() {
      guard MonotonicTime.now < deadline else { throw TimeOut(description: "waited for: \(words)") }
      SystemThread.yield()
    }
  }

  /// What tshark makes of it, once that holds `last`: all packets, with the details of `protocols`.
  public func dissect(
    _ protocols: String, until last: String, _ options: [String] = []
  ) throws -> String {
    var text = ""
    try wait("\"\(last)\" is captured") {
      text = try output(options + ["-r", file.path(), "-V", "-O", protocols])
      return text.contains(last)
    }
    return text
  }

  /// Over a file: a pipe's end could be inherited by a process that another test starts meanwhile.
  private func output(_ arguments: [String]) throws -> String {
    let place = FileManager.default.temporaryDirectory.appending(
      path: "fabric-tshark-\(UUID().uuidString)")
    try Data().write(to: place)
    defer { try? FileManager.default.removeItem(at: place) }
    let process = Process()
    process.executableURL = URL(filePath: Self.tshark)
    process.arguments = arguments
    process.standardOutput = try FileHandle(forWritingTo: place)
    process.standardError = FileHandle.nullDevice
    try process.run()
    process.waitUntilExit()
    return String(decoding: try Data(contentsOf: place), as: UTF8.self)
  }
}
