import FabricPlatform
import Foundation

/// All contests: what we do, and who else does it.
struct Field {
  let seconds: Double

  static let programs = [
    ("ucx_perftest", "ucx-utils"), ("fi_pingpong", "libfabric-bin"), ("nbdkit", "nbdkit"),
    ("fio", "fio"), ("passthrough_ll", "libfuse3-dev has its source"), ("iperf3", "iperf3"),
  ]
  private static let sizes = [64, 4096, 65536]

  var contests: [Contest] {
    sharedMemory + tcp + blocks + nbd + devices + nics
  }

  private var sharedMemory: [Contest] {
    Self.sizes.flatMap { size in
      ["tag_lat", "ucp_am_lat", "ucp_put_lat"].map { test in
        latency("shm", size, "ucx \(test)") { try ucx("posix,sysv,cma,self", test, size, .latency) }
      }
        + ["tag_bw", "ucp_am_bw", "ucp_put_bw"].map { test in
          bandwidth("shm", size, "ucx \(test)") {
            try ucx("posix,sysv,cma,self", test, size, .rate)
          }
        }
    } + [latency("shm", 64, "libfabric shm") { try libfabric("shm", "rdm", 64) }]
  }

  private var tcp: [Contest] {
    Self.sizes.flatMap { size in
      [
        bareSocket(size),
        latency("tcp", size, "ucx tag_lat") { try ucx("tcp", "tag_lat", size, .latency) },
        bandwidth("tcp", size, "ucx tag_bw") { try ucx("tcp", "tag_bw", size, .rate) },
      ]
    } + [latency("tcp", 64, "libfabric tcp") { try libfabric("tcp", "msg", 64) }]
  }

  private var blocks: [Contest] {
    ["never", "always"].map { checksums in
      Contest(
        workload: "tcp randread 4096 depth 32, checksums \(checksums)", unit: .perSecond,
        peer: "nbdkit memory, fio nbd", ours: { try BlockContest(seconds).ours(checksums) },
        theirs: { try BlockContest(seconds).theirs() })
    }
  }

  private var nbd: [Contest] {
    NBDContest.all(seconds).map { contest in
      Contest(
        workload: contest.name, unit: .perSecond, peer: "nbdkit memory",
        ours: { try contest.ours() }, theirs: { try contest.theirs() })
    }
  }

  private var devices: [Contest] {
    DeviceContest.all(seconds).map { contest in
      Contest(
        workload: contest.name, unit: .perSecond, peer: contest.kind.peer,
        ours: { try contest.ours() }, theirs: { try contest.theirs() })
    }
  }

  private var nics: [Contest] {
    NICContest.all(seconds).map { contest in
      Contest(
        workload: contest.name, unit: contest.unit, peer: NICContest.peer,
        ours: { try contest.ours() }, theirs: { try contest.theirs() })
    }
  }

  // MARK: Ours

  private func latency(
    _ fabric: String, _ size: Int, _ peer: String, _ theirs: @escaping () throws -> Double
  ) -> Contest {
    Contest(
      workload: "\(fabric) latency \(size)", unit: .microseconds, peer: peer,
      ours: { try oneWay(fabric, size).time }, theirs: theirs)
  }

  private func bareSocket(_ size: Int) -> Contest {
    // The floor is measured in the same run, between the same two processes.
    final class Last { var floor = 0.0 }
    let last = Last()
    return Contest(
      workload: "tcp latency \(size)", unit: .microseconds, peer: "bare socket",
      ours: {
        let (time, floor) = try oneWay("tcp", size)
        last.floor = floor
        return time
      }, theirs: { last.floor })
  }

  private func bandwidth(
    _ fabric: String, _ size: Int, _ peer: String, _ theirs: @escaping () throws -> Double
  ) -> Contest {
    Contest(
      workload: size <= MessageSize.maximum
        ? "\(fabric) rate \(size)" : "\(fabric) bandwidth \(size)",
      unit: size <= MessageSize.maximum ? .perSecond : .megabytesPerSecond, peer: peer,
      ours: { try stream(fabric, size) },
      theirs: {
        let rate = try theirs()
        return size <= MessageSize.maximum ? rate : rate * Double(size) / 1e6
      })
  }

  private func ourselves(_ arguments: [String]) throws -> [String: Any] {
    let own = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath().path
    let text = try OtherProgram(
      name: own, arguments: arguments + ["--json", "--seconds", "\(seconds)"], processor: 0,
      isBound: false
    ).output()
    let object = try JSONSerialization.jsonObject(with: Data(text.utf8))
    guard let object = object as? [String: Any] else { throw Failure("no figures: \(text)") }
    return object
  }

  private func oneWay(_ fabric: String, _ size: Int) throws -> (time: Double, floor: Double) {
    let figures = try ourselves([
      "latency", "--fabric", fabric, "--size", "\(size)", "--checksums", "never",
    ])
    guard let times = figures["oneWayMicroseconds"] as? [String: Any],
      let median = times["p50"] as? Double, let floor = figures["floorMicroseconds"] as? Double
    else { throw Failure("latency printed no median") }
    return (median, floor)
  }

  /// Messages a second, or millions of bytes.
  private func stream(_ fabric: String, _ size: Int) throws -> Double {
    let isShort = size <= MessageSize.maximum
    let figures = try ourselves([
      isShort ? "rate" : "bandwidth", "--fabric", fabric, "--size", "\(size)", "--checksums",
      "never",
    ])
    let name = isShort ? "messagesPerSecond" : "bytesPerSecond"
    guard let value = figures[name] as? Double else { throw Failure("no \(name)") }
    return isShort ? value : value / 1e6
  }

  // MARK: Theirs

  private enum Column: Int { case latency = 1, rate = 7 }

  private func ucx(
    _ transports: String, _ test: String, _ size: Int, _ column: Column
  ) throws -> Double {
    let port = Int.random(in: 13000..<16000)
    let environment = ["UCX_TLS": transports]
    let server = try OtherProgram(
      name: "ucx_perftest", arguments: ["-p", "\(port)"], environment: environment, processor: 1
    ).start()
    defer { stop(server) }
    try OtherProgram.waitForListener(port: port)
    // As long as ours, roughly: what a message may cost at the least.
    let perSecond = column == .latency ? 50_000.0 : size > 4096 ? 20_000 : 300_000
    let count = max(1000, Int(seconds * perSecond))
    let text = try OtherProgram(
      name: "ucx_perftest",
      arguments: [
        "127.0.0.1", "-p", "\(port)", "-t", test, "-s", "\(size)", "-n", "\(count)", "-w",
        "\(count / 10)", "-f", "-v",
      ], environment: environment, processor: 0
    ).output()
    let fields = text.split(separator: "\n").last?.split(separator: ",") ?? []
    guard fields.count > column.rawValue, let value = Double(fields[column.rawValue]) else {
      throw Failure("ucx_perftest printed \(text)")
    }
    return value
  }

  private func libfabric(_ provider: String, _ kind: String, _ size: Int) throws -> Double {
    let port = Int.random(in: 16000..<19000)
    let server = try OtherProgram(
      name: "fi_pingpong",
      arguments: [
        "-p", provider, "-e", kind, "-B", "\(port)", "-S", "\(size)",
        "-I", "20000",
      ], processor: 1
    ).start()
    defer { stop(server) }
    try OtherProgram.waitForListener(port: port)
    let text = try OtherProgram(
      name: "fi_pingpong",
      arguments: [
        "-p", provider, "-e", kind, "-P", "\(port)", "-S", "\(size)", "-I", "20000", "127.0.0.1",
      ], processor: 0
    ).output()
    // bytes, sent, acknowledged, total, time, MB/s, microseconds a transfer, ...
    let fields = text.split(separator: "\n").last?.split(separator: " ") ?? []
    guard fields.count > 6, let value = Double(fields[6]) else {
      throw Failure("fi_pingpong printed \(text)")
    }
    return value
  }
}

/// Ends a program that runs beside.
func stop(_ process: Process) {
  if process.isRunning { process.terminate() }
  process.waitUntilExit()
}
