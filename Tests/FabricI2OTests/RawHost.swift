import FabricBounded
import FabricCompletion
import FabricI2O
import FabricI2OHost
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import FabricWire
import Foundation
import Synchronization
import Testing

/// Lines that several threads write.
final class Lines: Sendable {
  private let all = Mutex<[String]>([])
  func add(_ line: String) { all.withLock { $0.append(line) } }
  var values: [String] { all.withLock { $0 } }
}

/// A server over shared memory, with a thread of its own: memory volumes `disk`, of 4096-byte blocks, and
/// `book`, of 512 and to be read alone, and whatever a test adds.
final class TestServer {
  let layer = CommonLayer()
  let service: CompletionService
  let server: I2OServer
  let lines = Lines()
  let path = "/tmp/fabric-i2o-\(UUID().uuidString.prefix(8)).sock"

  init(options: I2OServer.Options = .init(), volumes: [Volume] = []) throws {
    var serviceOptions = CompletionService.Options()
    serviceOptions.threadCount = 1
    service = try CompletionService(serviceOptions)
    let disk = Volume(name: "disk", store: try MemoryStore(byteCount: 1 << 22))
    try layer.add(disk)
    let book = try MemoryStore(byteCount: 1 << 20, blockByteCount: 512, isReadOnly: true)
    try layer.add(Volume(name: "book", store: book))
    for volume in volumes { try layer.add(volume) }
    var options = options
    options.log = { [lines] in lines.add($0) }
    server = try I2OServer(
      layer: layer, service: service, adapter: try SharedMemoryAdapter(),
      addresses: [FabricAddress(fabric: "shm", endpoint: path)], options: options)
  }

  deinit {
    server.stop()
    service.stop()
  }

  /// Numbers follow the volumes' names as the server found them.
  static let book: UInt16 = 8
  static let disk: UInt16 = 9

  /// A volume whose medium does as a plan says.
  static func volume(
    _ name: String, fault: String, byteCount: UInt64 = 1 << 20
  ) throws -> Volume {
    Volume(
      name: name,
      store: FaultStore(
        over: try MemoryStore(byteCount: byteCount), plan: try FaultPlan(parsing: fault)))
  }
}

/// What came for a raw host, in the order that it came.
enum Arrival: Equatable {
  case reply(context: UInt32, ReplyFrame)
  case pushed(UInt32)
  case other
}

/// A host that says whatever a test wants, run by the test's thread.
final class RawHost: ChannelHandler {
  let service: CompletionService
  let endpoint: ChannelEndpoint
  /// Open to the unit's writes; its second half is sent from.
  let region: MemoryRegion
  private(set) var channel: Channel?
  private(set) var refusal: ChannelOpenError?
  private(set) var closeReason: ChannelCloseReason?
  private(set) var arrivals: [Arrival] = []
  /// Frames as they came.
  private(set) var frames: [[UInt8]] = []
  private(set) var arrivalCount = 0
  /// Whether more than their number is to be known.
  var keepsArrivals = true

  /// Connects, and waits until that has ended.
  init(
    to address: FabricAddress, adapter: any Adapter, service: CompletionService? = nil,
    greeting: [UInt8] = I2OHostOpening(hostName: "raw").encoded(), regionByteCount: Int = 1 << 20,
    change: (inout ChannelOptions) -> Void = { _ in }, turn: (() -> Void)? = nil
  ) throws {
    self.service = try service ?? CompletionService()
    endpoint = try ChannelEndpoint(adapter: adapter, service: self.service)
    region = try endpoint.protectionDomain.allocate(
      byteCount: regionByteCount, access: [.localWrite, .remoteWrite])
    var options = ChannelOptions()
    options.bufferCount = 0
    options.messageByteCount = I2OServer.messageByteCount
    options.greeting = greeting
    change(&options)
    endpoint.connect(to: address, options: options, handler: self) { [weak self] in
      switch $0 {
      case .success(let channel): self?.channel = channel
      case .failure(let error): self?.refusal = error
      }
    }
    if let turn {
      while channel == nil, refusal == nil { turn() }
    } else {
      run { channel != nil || refusal != nil }
    }
  }

  convenience init(_ test: TestServer, greeting: [UInt8]? = nil) throws {
    try self.init(
      to: test.server.addresses[0], adapter: try SharedMemoryAdapter(),
      greeting: greeting ?? I2OHostOpening(hostName: "raw").encoded())
  }

  deinit { close() }

  /// Goes without a word. Until then its channel keeps this object.
  func close() {
    endpoint.close()
    service.turn()
  }

  @discardableResult
  func run(_ limit: Duration = .seconds(10), until condition: () -> Bool) -> Bool {
    service.run(until: condition, deadline: .now + limit)
    return condition()
  }

  // MARK: Memory

  var half: Int { region.byteCount / 2 }

  /// A piece of the region that the unit may write to.
  func piece(_ offset: Int, _ byteCount: Int) -> ScatterElement {
    ScatterElement(
      at: region.address + UInt64(offset), byteCount: UInt32(byteCount), key: region.remoteKey!)
  }

  func bytes(_ offset: Int, _ byteCount: Int) -> [UInt8] {
    unsafe Array(region.bytes[offset..<offset + byteCount])
  }

  func fill(_ offset: Int, _ bytes: [UInt8]) {
    for (index, byte) in bytes.enumerated() { unsafe region.bytes[offset + index] = byte }
  }

  // MARK: Messages

  /// Sends a message, with data when there is some.
  @discardableResult
  func send(
    _ bytes: [UInt8], data: [UInt8]? = nil, kind: UInt16 = I2O.messageKind, tag: UInt32 = 0
  ) -> SendRefusal? {
    var copy = bytes
    copy.append(0)
    return unsafe copy.withUnsafeBytes { raw in
      let payload = unsafe WireView(raw.baseAddress!, byteCount: bytes.count)
      defer { channel?.flush() }
      guard let data else { return channel?.send(kind: kind, tag: tag, payload: payload) }
      fill(half, data)
      let element = region.element(offset: half, byteCount: data.count)
      return channel?.transfer(kind: kind, tag: tag, payload: payload, data: element)
    }
  }

  /// The same, with what lies in the region already; nothing is copied or made.
  func send(_ bytes: borrowing [UInt8], dataByteCount: Int?) -> SendRefusal? {
    guard let channel else { return .closed }
    return unsafe bytes.withUnsafeBytes { raw in
      let payload = unsafe WireView(raw)
      defer { channel.flush() }
      guard let dataByteCount else {
        return channel.send(kind: I2O.messageKind, tag: 0, payload: payload)
      }
      return channel.transfer(
        kind: I2O.messageKind, tag: 0, payload: payload,
        data: region.element(offset: half, byteCount: dataByteCount))
    }
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      arrivalCount += 1
      guard keepsArrivals else { continue }
      var arrival = Arrival.other
      if message.isPushCompletion {
        arrival = .pushed(message.tag)
      } else if message.kind == I2O.messageKind,
        let (header, reply) = ReplyFrame.decode(message.payload)
      {
        arrival = .reply(context: header.transactionContext, reply)
        frames.append(message.payload.array)
      }
      arrivals.append(arrival)
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closeReason = reason }

  /// Replies with a context.
  func replies(to context: UInt32) -> [ReplyFrame] {
    arrivals.compactMap { arrival in
      if case .reply(context, let reply) = arrival { reply } else { nil }
    }
  }

  /// Replies that have come.
  var replyCount: Int { frames.count }

  /// Sends a message and waits for its reply.
  func ask(_ bytes: [UInt8], data: [UInt8]? = nil, context: UInt32 = 5) -> ReplyFrame? {
    let count = replies(to: context).count
    send(bytes, data: data)
    run { replies(to: context).count > count || closeReason != nil }
    return replies(to: context).dropFirst(count).first
  }

  /// Says that replies may come.
  @discardableResult
  func initialise() -> Bool {
    let count = arrivals.count
    send(RequestFrame.outboundInit(wordTo: piece(0, 4)).bytes)
    run { arrivals.count > count || closeReason != nil }
    return arrivals.last == .pushed(UInt32(I2O.Function.outboundInit.rawValue))
      && bytes(0, 4) == [4, 0, 0, 0]
  }

  /// Reads blocks into the region, in pieces.
  func read(
    _ device: UInt16 = TestServer.disk, block: UInt64, byteCount: UInt32 = 4096,
    blockByteCount: UInt64 = 4096, context: UInt32 = 5, into elements: [ScatterElement]
  ) -> ReplyFrame? {
    ask(
      transfer(device, block * blockByteCount, byteCount, context, elements), context: context)
  }

  func transfer(
    _ device: UInt16, _ address: UInt64, _ byteCount: UInt32, _ context: UInt32,
    _ elements: [ScatterElement], isWrite: Bool = false
  ) -> [UInt8] {
    var frame = TransferFrame()
    frame.isWrite = isWrite
    frame.target = device
    frame.address = address
    frame.byteCount = byteCount
    frame.context = context
    frame.elements = elements
    return frame.bytes
  }

  /// Writes blocks out of `data`, in pieces; without any, all of it in one.
  func write(
    _ device: UInt16 = TestServer.disk, block: UInt64, _ data: [UInt8], byteCount: UInt32? = nil,
    blockByteCount: UInt64 = 4096, context: UInt32 = 6, from elements: [ScatterElement]? = nil
  ) -> ReplyFrame? {
    let all = [ScatterElement(.attached, byteCount: UInt32(data.count))]
    return ask(
      transfer(
        device, block * blockByteCount, byteCount ?? UInt32(data.count), context, elements ?? all,
        isWrite: true), data: data, context: context)
  }
}

/// A flush of a device.
func flushFrame(_ device: UInt16, context: UInt32 = 7) -> [UInt8] {
  words(0x0005_0001, 0x3700_1000 | UInt32(device), 0, context, 0)
}
