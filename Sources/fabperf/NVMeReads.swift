import ArgumentParser
import FabricNVMe
import FabricPlatform
import Foundation

struct NVMeReads: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "nvme",
    abstract: "Random reads of an NVMe/TCP host that polls, beside a bare socket's round trip.",
    discussion: """
      Starts `iounit`, which lies beside this program, with a memory volume at --nvme-tcp, and reads \
      from it with a small host of this process: one I/O queue, no digests.

      JSON: readsPerSecond, bytesPerSecond, roundTripMicroseconds (of 64 bytes over a bare socket), \
      size, depth.
      """)

  private static let blockCount = 16384

  @Option(help: "Commands in flight, 1 to 512.")
  var depth = 32

  @Option(help: "Bytes of a read: 4096 to 1048576, whole blocks of 4096.")
  var size = 4096

  @Option(help: "Seconds to measure for, after a warm-up of a tenth.")
  var seconds = 2.0

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func validate() throws {
    guard 1...512 ~= depth else {
      throw ValidationError("expected --depth of 1 to 512, got \(depth)")
    }
    guard 4096...(1 << 20) ~= size, size.isMultiple(of: 4096) else {
      throw ValidationError(
        "expected --size of 4096 to 1048576, a multiple of 4096, got \(size)")
    }
    guard seconds > 0, seconds <= 60 else {
      throw ValidationError("expected more than 0 and at most 60 seconds, got \(seconds)")
    }
  }

  func run() throws {
    let roundTrip = try floor()
    let unit = try ServingUnit(arguments: [
      "--nvme-tcp", "127.0.0.1:0", "--volume", "memory=memory,size=\(Self.blockCount * 4096)",
    ])
    defer { unit.stop() }
    guard let port = UInt16(unit.endpoint.split(separator: ":").last ?? "") else {
      throw Failure("expected a port, got \(unit.endpoint)")
    }
    try Processor.bindCallingThread(toAvailable: 0)
    let client = try NVMeClient(
      port: port, subsystem: NVMSubsystem.Options().name, depth: depth)
    let perSecond = try client.read(
      blockCount: size / 4096, of: Self.blockCount, seconds: seconds)
    var report = Report()
    report.add("readsPerSecond", perSecond, digits: 0)
    report.add("bytesPerSecond", perSecond * Double(size), digits: 0)
    report.add("roundTripMicroseconds", roundTrip)
    report.add("size", size)
    report.add("depth", depth)
    try report.print(json: json)
  }

  /// Microseconds.
  private func floor() throws -> Double {
    let floor = try SocketFloor()
    let port = floor.port
    let other = try SystemThread.start(name: "floor") {
      try? SocketFloor.answer(port: port, size: 64)
    }
    defer { other.join() }
    return try floor.measure(size: 64) * 2 / 1000
  }
}
