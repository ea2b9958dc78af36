import FabricCommandLine
import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricRDMA
import FabricTCP
import FabricVerbs
import FabricWire
import Foundation

/// What a measuring process tells its peer, as a message's kind.
enum Kind {
  static let ping: UInt16 = 1
  static let stream: UInt16 = 2
  /// The sender has sent `tag` messages; the peer answers when it has them all.
  static let endOfStream: UInt16 = 3
}

/// A peer process that was started and is about to connect.
final class StartedMeasurement {
  private let service: CompletionService
  private let endpoint: ChannelEndpoint
  private let listener: ChannelListener
  private let handler: MeasuringHandler
  private let process = Process()

  /// - Parameter floor: further arguments of the peer: the floor that it answers first.
  init(
    options: ChannelOptions, common: CommonOptions, floor: [String] = [],
    handler: MeasuringHandler = MeasuringHandler()
  ) throws {
    self.handler = handler
    var place = "127.0.0.1:0"
    if common.fabric == "shm" {
      place = NSTemporaryDirectory() + "/fabperf-\(getpid()).sock"
      Interruption.removes(place)
    }
    if common.fabric == "rdma" { place = Self.deviceAddress() ?? place }
    service = try CompletionService(spinning: common.spin)
    endpoint = try ChannelEndpoint(
      adapter: try common.choice.adapter(
        for: common.fabric, at: FabricAddress(fabric: common.fabric, endpoint: place),
        isListening: true), service: service)
    let box = Box()
    listener = try endpoint.listen(
      at: FabricAddress(fabric: common.fabric, endpoint: place), options: options,
      accept: { _, _ in .accept(greeting: [], handler: handler) }, opened: { box.channel = $0 })
    self.box = box
    process.executableURL = URL(fileURLWithPath: "/proc/self/exe").resolvingSymlinksInPath()
    let endpoint = listener.address?.endpoint ?? place
    process.arguments =
      [
        "peer", endpoint, "--parent", "\(getpid())", "--fabric", common.fabric, "--checksums",
        common.tcp.checksums.rawValue, "--spin", "\(common.spin)",
      ] + floor
    if common.direct { process.arguments?.append("--direct") }
    try process.run()
    // Only now: the service and the peer look at which processors there are.
    try Processor.bindCallingThread(toAvailable: 0)
  }

  /// An address of this machine that an RDMA device is reached by; nil without one.
  private static func deviceAddress() -> String? {
    let survey = RDMASurvey.take()
    for device in survey.devices {
      for port in device.ports where port.problem(of: device.transport) == nil {
        guard let host = port.addresses.first else { continue }
        return host.contains(":") ? "[\(host)]:0" : "\(host):0"
      }
    }
    return nil
  }

  private final class Box { var channel: Channel? }
  private let box: Box

  func connected() throws -> Measurement {
    service.run(until: { box.channel != nil }, deadline: .now + .seconds(10))
    listener.close()
    guard let channel = box.channel else {
      throw Failure("the peer process did not connect within 10 s")
    }
    return Measurement(
      service: service, endpoint: endpoint, channel: channel, handler: handler, process: process)
  }
}

/// ^C while the socket is there.
private enum Interruption {
  // Made before: inside a signal's handler no memory may be taken.
  nonisolated(unsafe) private static var path: UnsafeMutablePointer<CChar>?

  /// Has SIGINT and SIGTERM remove a file and then do what they do.
  static func removes(_ file: String) {
    unsafe path = strdup(file)
    // A parent may have had them blocked when it started us.
    var set = sigset_t()
    unsafe sigemptyset(&set)
    for number in [SIGINT, SIGTERM] {
      unsafe sigaddset(&set, number)
      signal(number) { number in
        if let path = unsafe Interruption.path { _ = unsafe unlink(path) }
        signal(number, SIG_DFL)
        raise(number)
      }
    }
    unsafe pthread_sigmask(SIG_UNBLOCK, &set, nil)
  }
}

/// The measuring side: its channel to a peer process that it has started.
final class Measurement {
  let service: CompletionService
  let channel: Channel
  let handler: MeasuringHandler
  let endpoint: ChannelEndpoint
  private let process: Process

  init(
    service: CompletionService, endpoint: ChannelEndpoint, channel: Channel,
    handler: MeasuringHandler, process: Process
  ) {
    self.service = service
    self.endpoint = endpoint
    self.channel = channel
    self.handler = handler
    self.process = process
  }

  /// Runs the service until `condition` holds.
  func run(until condition: () -> Bool, within limit: Duration = .seconds(60)) throws {
    service.run(until: { condition() || handler.closed != nil }, deadline: .now + limit)
    if let closed = handler.closed { throw Failure("the channel closed: \(closed)") }
    guard condition() else { throw Failure("the peer did not answer within \(limit)") }
  }

  func finish() {
    channel.close()
    service.run(until: { handler.closed != nil }, deadline: .now + .seconds(2))
    process.waitUntilExit()
  }
}

/// A measurement that could not be made.
struct Failure: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

class MeasuringHandler: ChannelHandler {
  /// Answers so far.
  var answerCount = 0
  var closed: ChannelCloseReason?
  var canSend = true

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    answerCount &+= messages.count
  }
  func channelCanSend(_ channel: Channel) { canSend = true }
  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closed = reason }
}

/// The other side: answers pings at once, and a stream when it has all of it.
final class AnsweringHandler: ChannelHandler {
  var closed: ChannelCloseReason?
  private var streamCount: UInt32 = 0
  /// What goes back for a long ping.
  private let data: MemoryRegion

  init(data: MemoryRegion) { self.data = data }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      if let buffer = message.buffer { channel.returnBuffer(buffer.id) }
      switch message.kind {
      case Kind.ping where message.buffer != nil:
        channel.transfer(
          kind: Kind.ping, tag: message.tag, payload: message.payload, data: data.element)
      case Kind.ping: channel.send(kind: Kind.ping, tag: message.tag, payload: message.payload)
      case Kind.endOfStream:
        channel.send(kind: Kind.endOfStream, tag: streamCount, payload: message.payload)
        streamCount = 0
      default: streamCount &+= 1
      }
    }
  }
  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closed = reason }
}

/// A figure with its unit of a thousand millionth of a second turned into microseconds.
func microseconds(_ nanoseconds: Double) -> Double { nanoseconds / 1000 }

/// `count` bytes of registered or plain memory seen as a message's payload.
func withPayload<Result>(_ count: Int, _ body: (WireView) throws -> Result) rethrows -> Result {
  try unsafe withUnsafeTemporaryAllocation(byteCount: max(1, count), alignment: 64) { raw in
    unsafe raw.initializeMemory(as: UInt8.self, repeating: 0x5a)
    return try unsafe body(WireView(raw.baseAddress!, byteCount: count))
  }
}
