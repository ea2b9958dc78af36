import FabricCompletion
import FabricIOUnit
import FabricMessaging
import FabricNIC
import FabricPlatform
import FabricSharedMemory
import FabricSimulated
import FabricStorage
import FabricVerbs
import FabricWire
import Glibc
import Synchronization
import TestSupport
import Testing

@testable import FabricNICUnit

/// A unit with one NIC that is a switch, at a socket in shared memory, or on a simulated network.
final class TestUnit {
  let server: IOUnitServer
  let address: FabricAddress
  let log = Log()

  final class Log: Sendable {
    private let lines = Mutex<[String]>([])
    func put(_ line: String) { lines.withLock { $0.append(line) } }
    var all: [String] { lines.withLock { $0 } }
  }

  private let service: CompletionService?
  var sharesService: Bool { service != nil }
  let network: SimulatedNetwork?

  /// - Parameters:
  ///   - service: the test's own, which carries the unit, too; nil: the unit has a thread.
  ///   - network: what hosts come by, step by step, where the service is the test's own; nil: shared memory.
  init(
    service: CompletionService? = nil, network: SimulatedNetwork? = nil,
    _ change: (inout NICOptions) -> Void = { _ in }
  ) throws {
    self.service = service
    self.network = network
    let path = "/tmp/fabric-nic-\(getpid())-\(UInt32.random(in: 0...(.max)))"
    address =
      network == nil
      ? FabricAddress(fabric: "shm", endpoint: path)
      : FabricAddress(fabric: "sim", endpoint: "unit")
    var nic = NICOptions(name: "lan0", uplink: .none)
    change(&nic)
    let log = log
    var options = IOUnitServer.Options()
    options.services = [
      try NICService(
        unitName: "unit", nics: [nic], allows: { host, _ in host != "stranger" },
        log: { log.put($0) })
    ]
    let adapter = try makeAdapter("unit", network)
    guard let service else {
      server = try IOUnitServer(
        layer: CommonLayer(), fabric: try UnitFabric(adapter), address: address, options: options)
      return
    }
    let fabric = try UnitFabric([adapter], service: service)
    let (place, all) = (address, options)
    server = try elsewhere({ service.turn() }, wake: { service.wake() }) {
      try IOUnitServer(layer: CommonLayer(), fabric: fabric, address: place, options: all)
    }
  }

  deinit {
    guard let service else { return server.stop() }
    let server = server
    try? elsewhere({ service.turn() }, wake: { service.wake() }) { server.stop() }
  }
}

private func makeAdapter(_ name: String, _ network: SimulatedNetwork?) throws -> any Adapter {
  try network?.makeAdapter(name: name) ?? SharedMemoryAdapter()
}

/// A host of a NIC's that has no interface: it sends what a test wants.
final class TestHost {
  let service: CompletionService
  private let turnsAtEnd: Bool
  private let network: SimulatedNetwork?
  private let endpoint: ChannelEndpoint
  private(set) var channel: Channel?
  private(set) var failure: ChannelOpenError?
  private(set) var opening: UnitNICOpening?
  /// Frames that came, without their records.
  private(set) var frames: [[UInt8]] = []
  private(set) var transferCount = 0
  private(set) var controls: [(kind: NICMessageKind?, bytes: [UInt8])] = []
  private(set) var closed: ChannelCloseReason?
  private var finishedCount = 0
  /// Keeps buffers, and gives no credit.
  var takesNothing = false { didSet { if !takesNothing { giveBack() } } }
  private var held: [UInt16] = []
  private let region: MemoryRegion
  var isQuiet = false
  private(set) var quietCount = 0

  /// - Parameter service: that of another host in the same test; nil: one of its own.
  init(
    _ unit: TestUnit, name: String = "host", nic: String = "lan0", address: MACAddress? = nil,
    session: HostNICOpening.Session = .random(), service: CompletionService? = nil,
    bufferCount: Int = 4, bufferByteCount: Int = FrameSlots.usualByteCount,
    greeting: [UInt8]? = nil
  ) throws {
    turnsAtEnd = !unit.sharesService
    network = unit.network
    self.service = try service ?? CompletionService()
    endpoint = try ChannelEndpoint(
      adapter: makeAdapter("host", network), service: self.service)
    region = try endpoint.protectionDomain.allocate(byteCount: 1 << 20, access: [.localWrite])
    var options = ChannelOptions()
    options.bufferCount = bufferCount
    options.bufferByteCount = bufferByteCount
    options.greeting =
      try greeting
      ?? HostNICOpening(nicName: nic, hostName: name, session: session, address: address)
      .encoded()
    var result: Result<Channel, ChannelOpenError>?
    let ear = Ear()
    ear.host = self
    endpoint.connect(to: unit.address, options: options, handler: ear) { result = $0 }
    try run { result != nil }
    switch result {
    case .success(let channel):
      self.channel = channel
      opening = try UnitNICOpening(decoding: channel.peerGreeting)
    case .failure(let error): failure = error
    case nil: break
    }
  }

  deinit {
    channel?.close()
    endpoint.close()
    // Who shares the unit's service may go in the middle of its round.
    if turnsAtEnd { for _ in 0..<16 { _ = service.turn() } }
  }

  var address: MACAddress { opening!.address }

  /// Runs the service until `condition` holds; throws when it does not within 10 s.
  func run(
    _ condition: () -> Bool, sourceLocation: SourceLocation = #_sourceLocation
  ) throws {
    let deadline = MonotonicTime.now + .seconds(10)
    if let network {
      while !condition(), .now < deadline {
        network.step()
        _ = service.turn()
      }
    } else {
      service.run(until: condition, deadline: deadline)
    }
    try #require(
      condition(), "expected the condition to hold within 10 s", sourceLocation: sourceLocation)
  }

  /// Sends records in a message of their own.
  func send(_ records: [UInt8]) -> SendRefusal? {
    let refusal = channel!.send(kind: NICMessageKind.frames.rawValue, tag: 1, bytes: records)
    channel!.flush()
    return refusal
  }

  /// Sends records that are in memory already; nothing is allocated.
  func send(_ records: WireView) -> SendRefusal? {
    let refusal = channel!.send(
      kind: NICMessageKind.frames.rawValue, tag: 1, payload: records)
    channel!.flush()
    return refusal
  }

  /// Writes records to one of the unit's buffers, and waits until they are there.
  func transfer(_ records: [UInt8]) throws -> SendRefusal? {
    let before = finishedCount
    let refusal = unsafe records.withUnsafeBytes { raw in
      unsafe region.bytes.copyMemory(from: raw)
      var nothing: UInt8 = 0
      return channel!.transfer(
        kind: NICMessageKind.frames.rawValue, tag: 1,
        payload: unsafe WireView(&nothing, byteCount: 0),
        data: ScatterGatherElement(
          address: region.address, byteCount: UInt32(records.count), localKey: region.localKey),
        token: 1)
    }
    channel!.flush()
    if refusal == nil { try run { finishedCount > before } }
    return refusal
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) { finishedCount += tokens.count }

  func control(_ kind: NICMessageKind, _ bytes: [UInt8]) {
    _ = channel!.send(kind: kind.rawValue, tag: 0, bytes: bytes)
    channel!.flush()
  }

  /// What the unit has counted of this host.
  func statistics() throws -> NICStatistics {
    let before = controls.count
    control(.statisticsQuery, [])
    try run { controls.count > before }
    return try view(controls[before].bytes) { try NICStatistics(decoding: $0) }
  }

  private func view<Value>(_ bytes: [UInt8], _ body: (WireView) throws -> Value) rethrows -> Value {
    let copy = bytes + [0]
    return try unsafe copy.withUnsafeBytes {
      try body(unsafe WireView($0.baseAddress!, byteCount: bytes.count))
    }
  }

  private func giveBack() {
    for id in held { channel?.returnBuffer(id) }
    held = []
    channel?.resumeMessages()
    channel?.flush()
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    if takesNothing { channel.holdMessages() }
    for index in messages.indices {
      let message = messages[index]
      if isQuiet {
        quietCount &+= 1
        if let buffer = message.buffer { channel.returnBuffer(buffer.id) }
        continue
      }
      guard message.kind == NICMessageKind.frames.rawValue else {
        controls.append((NICMessageKind(rawValue: message.kind), message.payload.array))
        continue
      }
      guard let buffer = message.buffer else {
        take(message.payload)
        continue
      }
      transferCount += 1
      let place = unsafe UnsafeRawPointer(bitPattern: UInt(buffer.address))
      take(unsafe WireView(place!, byteCount: buffer.byteCount))
      if takesNothing { held.append(buffer.id) } else { channel.returnBuffer(buffer.id) }
    }
  }

  private func take(_ view: WireView) {
    var offset = 0
    while offset < view.byteCount, let frame = Frame(in: view, at: offset) {
      frames.append(view.slice(offset + FrameRecord.headerByteCount, frame.byteCount).array)
      offset += frame.recordByteCount
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closed = reason }
}

/// Hears for a host without keeping it: a host keeps its channel.
private final class Ear: ChannelHandler {
  weak var host: TestHost?

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    host?.channel(channel, received: messages)
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    host?.channel(channel, finished: tokens)
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    host?.channel(channel, closed: reason)
  }
}
