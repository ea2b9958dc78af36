import ArgumentParser
import FabricCommandLine
import FabricCompletion

/// Measures this machine's channels, each beside the machine's own floor.
@main
struct Fabperf: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "fabperf",
    abstract: "Measures channels between two processes, beside the machine's own floor.",
    discussion: """
      Every run measures the floor as well, so its results are ratios that compare across \
      machines. Build with `swift build -c release` for figures that mean something.

      Exit codes: 0 measured, 1 a process failed, 64 wrong usage.
      """,
    version: "fabperf \(Release.version)",
    subcommands: [
      Latency.self, Rate.self, Bandwidth.self, GateCost.self, PoolCost.self, Connections.self,
      NVMeReads.self, Multipath.self, Compare.self, Peer.self,
    ])

  static func main() {
    var command = commandFromArguments()
    do { try command.run() } catch { end(because: error) }
  }
}

/// What every measurement between two processes takes.
struct CommonOptions: ParsableArguments {
  @Option(
    help: """
      The fabric to measure: shm, tcp by way of this machine's loopback, or rdma by way of its \
      first device that can be used.
      """)
  var fabric = "shm"

  @Option(help: "Seconds to measure for, after a warm-up of a tenth.")
  var seconds = 2.0

  @Option(
    help: """
      The most microseconds that either side looks for work before it sleeps. Programs that never \
      sleep are compared with at 1000000.
      """)
  var spin: UInt32 = 50

  @Flag(help: "Shared memory: the sender writes straight into the receiver's buffers.")
  var direct = false

  @OptionGroup var tcp: ChecksumOptions

  /// How to make the adapter to measure with.
  var choice: FabricChoice { FabricChoice(isDirect: direct, checksums: tcp.checksums) }

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  func validate() throws {
    guard FabricChoice.names.contains(fabric) else {
      throw ValidationError(
        "expected --fabric as one of \(FabricChoice.names.joined(separator: ", ")), got \(fabric)")
    }
    guard !direct || fabric == "shm" else {
      throw ValidationError(
        "expected --direct with --fabric shm, which alone knows it, got \(fabric); leave --direct out"
      )
    }
    guard seconds > 0, seconds <= 3600 else {
      throw ValidationError("expected more than 0 and at most 3600 seconds, got \(seconds)")
    }
  }
}

/// The length of what `rate` sends.
struct MessageSize: ParsableArguments {
  static let maximum = 496

  @Option(help: "Bytes of a message, 1 to 496.")
  var size = 64

  func validate() throws {
    guard 1...Self.maximum ~= size else {
      throw ValidationError("expected a size of 1 to 496 bytes, got \(size)")
    }
  }
}

extension CompletionService {
  convenience init(spinning microseconds: UInt32) throws {
    var options = Options()
    options.spin = .microseconds(Int64(microseconds))
    try self.init(options)
  }
}
