import FabricPlatform
import Foundation

/// fio at block devices of the kernel that lead to a volume in memory of 64 MiB: one that `iohost` attaches, and one
/// of the same kind, or for the same use, that others serve. Wants root.
struct DeviceContest {
  enum Kind: String {
    /// A loop device on a file of FUSE; theirs is a file in memory behind libfuse's `passthrough_ll`.
    case loop
    /// A ublk device; theirs is the kernel's NBD client at nbdkit.
    case ublk

    var peer: String { self == .loop ? "passthrough_ll" : "the kernel's nbd, nbdkit" }
  }

  let kind: Kind
  let fabric: String
  let depth: Int
  private let seconds: Double

  /// Those that this machine can have.
  static func all(_ seconds: Double) -> [DeviceContest] {
    guard getuid() == 0 else { return [] }
    let kinds: [Kind] =
      (OtherProgram.isInstalled("passthrough_ll") ? [.loop] : [])
      + (FileManager.default.fileExists(atPath: "/dev/ublk-control")
        && FileManager.default.fileExists(atPath: "/dev/nbd0") ? [.ublk] : [])
    return kinds.flatMap { kind in
      ["shm", "tcp"].flatMap { fabric in
        [1, 32].map { DeviceContest(kind: kind, fabric: fabric, depth: $0, seconds: seconds) }
      }
    }
  }

  var name: String { "\(kind.rawValue) \(fabric) randread 4096 depth \(depth)" }

  // MARK: Ours

  func ours() throws -> Double {
    try inDirectory { directory in
      let folder = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
        .deletingLastPathComponent().path
      let place =
        fabric == "shm" ? "\(directory)/unit" : "127.0.0.1:\(Int.random(in: 19000..<22000))"
      let unit = try OtherProgram(
        name: "\(folder)/iounit",
        arguments: [
          "serve", "--insecure", "--listen", "\(fabric):\(place)", "--volume",
          "memory=memory,size=64MiB,block=4096", "--quiet",
        ], processor: 1, isBound: false
      ).start(until: { $0.contains("ready") })
      defer { stop(unit) }
      var device = ""
      let host = try OtherProgram(
        name: "\(folder)/iohost",
        arguments: [
          "attach", "fabric+\(fabric)://\(place)/memory", "--as", kind.rawValue, "--foreground",
          "--state-dir", directory,
        ], processor: 0, isBound: false
      ).start(until: { text in
        device =
          text.split(whereSeparator: \.isWhitespace).first { $0.hasPrefix("/dev/") }
          .map { String($0) } ?? ""
        return !device.isEmpty && text.hasSuffix("\n")
      })
      defer { stop(host) }
      return try Fio.device(device, "randread", depth: depth, seconds)
    }
  }

  // MARK: Theirs

  func theirs() throws -> Double {
    try inDirectory { kind == .loop ? try passthrough($0) : try nbd($0) }
  }

  private func passthrough(_ directory: String) throws -> Double {
    // /dev/shm holds files in memory.
    let source = "/dev/shm/fabperf-\(getpid())"
    let place = "\(directory)/files"
    let manager = FileManager.default
    for made in [source, place] {
      try manager.createDirectory(atPath: made, withIntermediateDirectories: false)
    }
    defer { try? manager.removeItem(atPath: source) }
    try Data(count: 64 << 20).write(to: URL(fileURLWithPath: "\(source)/file"))
    let server = try OtherProgram(
      name: "passthrough_ll",
      arguments: ["-f", "-o", "source=\(source)", "-o", "cache=never", place],
      processor: 1, isBound: false
    ).start()
    defer {
      _ = try? system("umount", place)
      stop(server)
    }
    try wait("\(place)/file is there") { FileManager.default.fileExists(atPath: "\(place)/file") }
    let device = try system(
      "losetup", "--direct-io=on", "--sector-size", "4096", "--find", "--show", "\(place)/file")
    defer { _ = try? system("losetup", "--detach", device) }
    return try Fio.device(device, "randread", depth: depth, seconds)
  }

  private func nbd(_ directory: String) throws -> Double {
    let socket = "\(directory)/nbdkit"
    let server = try OtherProgram(
      name: "nbdkit", arguments: ["-f", "-U", socket, "memory", "64M"], processor: 1, isBound: false
    ).start()
    defer { stop(server) }
    try OtherProgram.waitForSocket(socket)
    try system("nbd-client", "-unix", socket, "/dev/nbd0", "-block-size", "4096")
    defer { _ = try? system("nbd-client", "-d", "/dev/nbd0") }
    return try Fio.device("/dev/nbd0", "randread", depth: depth, seconds)
  }

  // MARK: Around it

  private func inDirectory(_ body: (String) throws -> Double) throws -> Double {
    let directory = "/tmp/fabperf-device-\(getpid())"
    let manager = FileManager.default
    try manager.createDirectory(atPath: directory, withIntermediateDirectories: false)
    defer { try? manager.removeItem(atPath: directory) }
    return try body(directory)
  }

  /// What a program of the system's prints, without the end of the line.
  @discardableResult
  private func system(_ name: String, _ arguments: String...) throws -> String {
    try OtherProgram(name: name, arguments: arguments, processor: 0, isBound: false).output()
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }

  private func wait(_ words: String, _ condition: () -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(10)
    while !condition() {
      guard MonotonicTime.now < deadline else { throw Failure("expected that \(words)") }
      SystemThread.yield()
    }
  }
}
