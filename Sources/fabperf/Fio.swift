import Foundation

/// fio's rates for random requests of 4096 bytes to 64 MiB.
enum Fio {
  /// Requests a second that were answered.
  ///
  /// - Parameters:
  ///   - target: the engine, and what it reads or writes.
  ///   - processor: the one that fio is bound to; nil: any.
  ///   - warming: whether so many seconds again go before, of which nothing counts.
  static func rate(
    _ target: [String], _ pattern: String, depth: Int, seconds: Double, processor: Int?,
    warming: Bool = false
  ) throws -> Double {
    let duration = max(1, Int(seconds))
    let text = try OtherProgram(
      name: "fio",
      arguments: ["--name=blocks"] + target + [
        "--rw=\(pattern)", "--bs=4096", "--iodepth=\(depth)", "--time_based",
        "--runtime=\(duration)", "--ramp_time=\(warming ? duration : 0)", "--size=64M",
        "--output-format=json",
      ], processor: processor ?? 0, isBound: processor != nil
    ).output()
    guard let start = text.firstIndex(of: "{"),
      let object = try JSONSerialization.jsonObject(with: Data(text[start...].utf8))
        as? [String: Any],
      let job = (object["jobs"] as? [[String: Any]])?.first,
      let part = job[pattern == "randwrite" ? "write" : "read"] as? [String: Any],
      let rate = part["iops"] as? Double
    else { throw Failure("fio printed \(text)") }
    return rate
  }

  /// At a server of NBD's; fio has a processor of its own.
  static func nbd(
    _ uri: String, _ pattern: String, depth: Int, _ seconds: Double
  ) throws -> Double {
    try rate(
      ["--ioengine=nbd", "--uri=\(uri)"], pattern, depth: depth, seconds: seconds, processor: 0)
  }

  /// At a block device, past the page cache, once its programs have run for a while: an emulated machine translates
  /// them first.
  static func device(
    _ path: String, _ pattern: String, depth: Int, _ seconds: Double
  ) throws -> Double {
    try rate(
      ["--ioengine=libaio", "--direct=1", "--filename=\(path)"], pattern, depth: depth,
      seconds: seconds, processor: nil, warming: true)
  }
}
