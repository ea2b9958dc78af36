import ArgumentParser
import FabricCompletion
import FabricMessaging
import FabricPlatform
import Histogram

struct Latency: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "One-way time of a small message through the messaging layer.",
    discussion: """
      Half a round trip between two processes, each on a processor of its own, and the same of a \
      bare cache line. JSON: oneWayMicroseconds.{p50,p99,p999,mean}, floorMicroseconds, ratio.
      """)

  @OptionGroup var common: CommonOptions
  @Option(help: "Bytes of a message, 1 to 496.")
  var size = 64

  func validate() throws {
    guard 1...496 ~= size else {
      throw ValidationError("expected a size of 1 to 496 bytes, got \(size)")
    }
  }

  func run() throws {
    var options = ChannelOptions()
    options.messageByteCount = 512
    let floor = try CacheLineFloor()
    let starting = try StartedMeasurement(
      options: options, isDirect: common.direct, floor: ["--floor", "\(floor.descriptor)"])
    // The peer answers the floor's rounds before it connects.
    let floorNanoseconds = floor.measure()
    let peer = try starting.connected()
    var histogram = Histogram<UInt32>(
      highestTrackableValue: 1_000_000_000, numberOfSignificantValueDigits: .three)
    try withPayload(size) { payload in
      let warm = MonotonicTime.now + .seconds(common.seconds / 10)
      let end = warm + .seconds(common.seconds)
      var last = MonotonicTime.now
      while last < end {
        let expected = peer.handler.answerCount &+ 1
        if let refusal = peer.channel.send(kind: Kind.ping, tag: 0, payload: payload) {
          throw Failure("a ping was refused: \(refusal)")
        }
        peer.channel.flush()
        peer.service.run(until: { peer.handler.answerCount == expected })
        let now = MonotonicTime.now
        if now > warm { histogram.record(now.nanoseconds(since: last) / 2) }
        last = now
      }
    }
    peer.finish()
    try report(histogram, floorNanoseconds).print(json: common.json)
  }

  private func report(_ histogram: Histogram<UInt32>, _ floor: Double) -> Report {
    func at(_ percentile: Double) -> Double {
      microseconds(Double(histogram.valueAtPercentile(percentile)))
    }
    var report = Report()
    report.add(
      "oneWayMicroseconds",
      [
        ("p50", at(50)), ("p99", at(99)), ("p999", at(99.9)),
        ("mean", microseconds(histogram.mean)),
      ])
    report.add("floorMicroseconds", microseconds(floor))
    report.add("ratio", at(50) / microseconds(floor))
    report.add("size", size)
    return report
  }
}
