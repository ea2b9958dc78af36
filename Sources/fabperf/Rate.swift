import ArgumentParser
import FabricCompletion
import FabricMessaging
import FabricPlatform

struct Rate: ParsableCommand {
  static let configuration = CommandConfiguration(
    abstract: "Small messages a second through the messaging layer, one way.",
    discussion: """
      The floor is a bare ring of records of the same size between the same two processes. JSON: \
      messagesPerSecond, nanosecondsPerMessage, floorMessagesPerSecond, ratio.
      """)

  @OptionGroup var common: CommonOptions
  @OptionGroup var message: MessageSize

  func run() throws {
    var options = ChannelOptions()
    options.receiveCount = 1024
    options.sendCount = 1024
    options.messageByteCount = 512
    let floor = try RingFloor(size: message.size)
    let starting = try StartedMeasurement(
      options: options, common: common,
      floor: ["--ring", "\(floor.descriptor)", "--size", "\(message.size)"])
    // The peer answers the floor's records before it connects.
    let floorRate = floor.measure()
    let peer = try starting.connected()
    let stream = Stream(peer)
    try withPayload(message.size) { payload in
      _ = try stream.pour(for: common.seconds / 10) {
        peer.channel.send(kind: Kind.stream, tag: 0, payload: payload)
      }
      let (count, seconds) = try stream.pour(for: common.seconds) {
        peer.channel.send(kind: Kind.stream, tag: 0, payload: payload)
      }
      peer.finish()
      var report = Report()
      report.add("messagesPerSecond", Double(count) / seconds, digits: 0)
      report.add("nanosecondsPerMessage", seconds * 1e9 / Double(count))
      report.add("floorMessagesPerSecond", floorRate, digits: 0)
      report.add("ratio", Double(count) / seconds / floorRate)
      report.add("size", message.size)
      try report.print(json: common.json)
    }
  }
}

/// A stream of messages as fast as credit allows, ended by an answer from the peer.
struct Stream {
  private let peer: Measurement
  /// Messages that are posted together.
  private static let batchCount = 16

  init(_ peer: Measurement) { self.peer = peer }

  /// - Returns: how many messages the peer had received after how many seconds.
  func pour(
    for seconds: Double, _ send: () -> SendRefusal?
  ) throws -> (count: Int, seconds: Double) {
    let start = MonotonicTime.now
    let end = start + .seconds(seconds)
    let channel = peer.channel
    let service = peer.service
    var count = 0
    while MonotonicTime.now < end {
      for _ in 0..<64 {
        var batch = 0
        while batch < Self.batchCount && send() == nil { batch &+= 1 }
        count &+= batch
        channel.flush()
        if batch < Self.batchCount { service.turn() }
      }
      if let closed = peer.handler.closed { throw Failure("the channel closed: \(closed)") }
    }
    let expected = peer.handler.answerCount &+ 1
    try withPayload(1) { payload in
      while channel.send(kind: Kind.endOfStream, tag: 0, payload: payload) != nil {
        service.turn()
        if let closed = peer.handler.closed { throw Failure("the channel closed: \(closed)") }
      }
    }
    channel.flush()
    try peer.run(until: { peer.handler.answerCount == expected })
    return (count, Double(MonotonicTime.now.nanoseconds(since: start)) / 1e9)
  }
}
