import ArgumentParser
import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricVerbs
import FabricWire
import Histogram

struct Latency: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "One-way time of a small message through the messaging layer.",
    discussion: """
      Half a round trip between two processes, each on a processor of its own, and the same of the \
      machine's own floor: a bare cache line, or over TCP and RDMA a bare socket. Messages of more than 496 \
      bytes are written into the peer's buffers. JSON: oneWayMicroseconds.{p50,p99,p999,mean}, \
      floorMicroseconds, ratio.
      """)

  @OptionGroup var common: CommonOptions
  @Option(help: "Bytes of a message, 1 to 131072.")
  var size = 64

  func validate() throws {
    guard 1...131072 ~= size else {
      throw ValidationError("expected a size of 1 to 131072 bytes, got \(size)")
    }
  }

  func run() throws {
    var options = ChannelOptions()
    options.messageByteCount = 512
    let pinger = Pinger()
    let (starting, floorNanoseconds) = try start(options, pinger)
    let peer = try starting.connected()
    let data = try peer.endpoint.protectionDomain.allocate(byteCount: size, access: [])
    try withPayload(min(size, MessageSize.maximum)) { payload in
      let isLong = size > MessageSize.maximum
      pinger.begin(
        payload, isLong ? data.element : nil, for: common.seconds, on: peer.channel)
      try peer.run(until: { pinger.isOver }, within: .seconds(60 + 2 * common.seconds))
    }
    if let refusal = pinger.refusal { throw Failure("a ping was refused: \(refusal)") }
    peer.finish()
    try report(pinger.histogram, floorNanoseconds).print(json: common.json)
  }

  /// The peer answers the floor's rounds before it connects.
  private func start(
    _ options: ChannelOptions, _ pinger: Pinger
  ) throws -> (StartedMeasurement, floor: Double) {
    if common.fabric != "shm" {
      let floor = try SocketFloor()
      let starting = try StartedMeasurement(
        options: options, common: common,
        floor: ["--socket-floor", "\(floor.port)", "--size", "\(size)"], handler: pinger)
      return (starting, try floor.measure(size: size))
    }
    let floor = try CacheLineFloor()
    let starting = try StartedMeasurement(
      options: options, common: common, floor: ["--floor", "\(floor.descriptor)"],
      handler: pinger)
    return (starting, floor.measure())
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

/// Sends a message, waits for its answer, and sends the next from where the answer is handled, as a
/// user would.
private final class Pinger: MeasuringHandler {
  private var payload: WireView?
  private var data: ScatterGatherElement?
  private var start = MonotonicTime.now
  private var end = MonotonicTime.now
  private var last = MonotonicTime.now
  private(set) var histogram = Histogram<UInt32>(
    highestTrackableValue: 1_000_000_000, numberOfSignificantValueDigits: .three)
  private(set) var isOver = false
  private(set) var refusal: SendRefusal?

  /// Sends the first; what comes back in the first tenth of the time is not counted.
  func begin(
    _ payload: WireView, _ data: ScatterGatherElement?, for seconds: Double, on channel: Channel
  ) {
    self.payload = data == nil ? payload : payload.slice(0, 8)
    self.data = data
    last = .now
    start = last + .seconds(seconds / 10)
    end = start + .seconds(seconds)
    ping(channel)
    channel.flush()
  }

  private func ping(_ channel: Channel) {
    guard let payload else { return }
    refusal =
      data.map { channel.transfer(kind: Kind.ping, tag: 0, payload: payload, data: $0) }
      ?? channel.send(kind: Kind.ping, tag: 0, payload: payload)
    isOver = isOver || refusal != nil
  }

  override func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      if let buffer = messages[index].buffer { channel.returnBuffer(buffer.id) }
    }
    if isOver { return }
    ping(channel)
    channel.flush()
    // While the next is under way.
    let now = MonotonicTime.now
    if now > start { histogram.record(now.nanoseconds(since: last) / 2) }
    last = now
    isOver = isOver || now >= end
  }
}
