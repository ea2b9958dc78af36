import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricTCP
import FabricVerbs
import FabricWire
import Foundation
import Testing

@testable import FabricNVMeFabrics

/// A subsystem that is reached by user-space iWARP at a port of its own.
final class RDMAUnit: NVMeUnit {
  private(set) var server: NVMeRDMAServer!

  /// - Parameters: as `NVMeUnit`'s.
  override init(
    _ stores: [(name: String, store: any Store)]? = nil, spin: Duration = .microseconds(50),
    _ change: (inout FrontEndOptions) -> Void = { _ in }
  ) throws {
    try super.init(stores, spin: spin, change)
    server = try NVMeRDMAServer(
      target, layer: layer, service: service, adapter: try TCPAdapter(TCPOptions()),
      addresses: [FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0")], options: options)
    stops.append { [server] in server?.stop() }
  }

  var address: FabricAddress { server.addresses[0] }
}

/// A host's end of a queue that knows the protocol's bytes and nothing else.
final class RDMAHost: HostCommands {
  static let memoryByteCount = 4 << 20
  /// Where data is written to and read from, in its memory.
  static let dataOffset = 1 << 20

  let subsystemName: String
  let adapter: any Adapter
  let queuePair: any QueuePair
  let memory: MemoryRegion
  private let domain: any ProtectionDomain
  private let completionQueue: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let receiveCount: Int
  /// The admin queue, without which an I/O queue ends.
  var admin: RDMAHost?
  /// Of the acceptor.
  private(set) var answer: [UInt8] = []
  private(set) var isEstablished = false
  private(set) var refusal: [UInt8]?
  private(set) var hasEnded = false
  /// Ends of commands that have come and were not asked for.
  private(set) var completions: [Completion] = []
  private(set) var failures: [WorkCompletionStatus] = []
  private var nextSend = 0

  /// Connects, or is refused.
  ///
  /// - Parameter parameters: the private data; nil: that of an honest host.
  init(
    _ unit: RDMAUnit, queue: UInt16 = 0, entryCount: Int = 64, parameters: [UInt8]? = nil
  ) throws {
    subsystemName = unit.name
    receiveCount = entryCount
    adapter = try TCPAdapter(TCPOptions())
    domain = try adapter.makeProtectionDomain()
    completionQueue = try adapter.makeCompletionQueue(capacity: 4096)
    events = try adapter.makeEventChannel()
    queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: completionQueue,
        receiveCompletionQueue: completionQueue, sendCapacity: 1024,
        receiveCapacity: entryCount))
    memory = try domain.allocate(
      byteCount: Self.memoryByteCount, access: [.localWrite, .remoteRead, .remoteWrite])
    for slot in 0..<entryCount { try postReceive(slot) }
    let honest = ConnectionParameters(
      queue: queue, hostReceiveCount: UInt16(entryCount), hostSendCount: UInt16(entryCount - 1))
    try adapter.connect(
      queuePair, to: unit.address, privateData: parameters ?? honest.encoded,
      timeout: .seconds(10), events: events)
    try wait("a connection or a refusal") { isEstablished || refusal != nil || hasEnded }
  }

  deinit { queuePair.destroy() }

  private func postReceive(_ slot: Int) throws {
    let element = memory.element(offset: slot * Completion.byteCount, byteCount: 16)
    try queuePair.postReceive(
      [ReceiveRequest(id: UInt64(slot), elements: ScatterGatherList(element))].span)
  }

  func wait(_ what: String, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(30)
    while try !condition() {
      try poll()
      guard .now < deadline else { throw Late(what: what) }
      sched_yield()
    }
  }

  struct Late: Error { let what: String }

  func poll() throws {
    while let event = events.poll() {
      switch event {
      case .established(_, let privateData):
        isEstablished = true
        answer = privateData
      case .failed(_, .rejected(let data)): refusal = data
      case .failed, .disconnected: hasEnded = true
      case .connectRequest: break
      }
    }
    var ends = [WorkCompletion](repeating: WorkCompletion(), count: 64)
    var space = ends.mutableSpan
    let count = completionQueue.poll(into: &space)
    for end in ends.prefix(count) {
      guard end.status == .success else {
        failures.append(end.status)
        continue
      }
      guard end.isReceive else { continue }
      #expect(end.byteCount == UInt32(Completion.byteCount))
      completions.append(withView(bytes(at: Int(end.id) * 16, count: 16)) { Completion($0) })
      try postReceive(Int(end.id))
    }
  }

  // MARK: Memory

  func bytes(at offset: Int, count: Int) -> [UInt8] {
    unsafe [UInt8](memory.bytes[offset..<offset + count])
  }

  func put(_ bytes: [UInt8], at offset: Int = dataOffset) {
    for (index, byte) in bytes.enumerated() { unsafe memory.bytes[offset + index] = byte }
  }

  /// The host's memory as commands name it.
  func data(byteCount: Int, at offset: Int = dataOffset, key: UInt32? = nil) -> DataPointer {
    .keyed(
      address: memory.address + UInt64(offset), byteCount: UInt32(byteCount),
      key: key ?? memory.remoteKey?.rawValue ?? 0)
  }

  // MARK: Commands

  /// Sends bytes as one message.
  func send(_ bytes: [UInt8]) throws {
    // A place for each of those that may be under way.
    let offset = (8 << 10) + nextSend % 64 * (12 << 10)
    nextSend += 1
    put(bytes, at: offset)
    try queuePair.postSend(
      [
        SendRequest(
          id: 1 << 32, opcode: .send,
          elements: ScatterGatherList(memory.element(offset: offset, byteCount: bytes.count)))
      ].span)
  }

  func send(_ command: Command, data: [UInt8] = []) throws {
    try send(encoded(Command.byteCount) { command.encode(into: $0) } + data)
  }

  /// The next end of a command.
  func receive() throws -> Completion {
    try wait("a completion") { !completions.isEmpty || hasEnded }
    return try #require(completions.isEmpty ? nil : completions.removeFirst())
  }

  /// Sends a command, and returns its end.
  func run(_ command: Command, data: [UInt8] = []) throws -> Completion {
    try send(command, data: data)
    return try receive()
  }

  func awaitEnd() throws { try wait("the connection's end") { hasEnded } }

  /// Connects the queue; returns how that ended.
  func connect(
    queue: UInt16 = 0, controller: UInt16 = 0xFFFF, size: UInt16? = nil, keepAlive: UInt32 = 0
  ) throws -> Completion {
    put(connectData(controller: controller))
    var command = connectCommand(
      queue: queue, size: size ?? UInt16(receiveCount - 1), keepAlive: keepAlive)
    command.data = data(byteCount: ConnectCommand.byteCount)
    return try run(command)
  }

  /// An enabled controller's admin queue; returns the controller's number.
  func becomeAdmin(keepAlive: UInt32 = 0) throws -> UInt16 {
    let end = try connect(keepAlive: keepAlive)
    #expect(end.status == .success)
    #expect(try run(enableCommand()).status == .success)
    return UInt16(truncatingIfNeeded: end.result)
  }
}

/// Two connected queues of one host: admin, and queue 1.
struct RDMAHostPair {
  let admin: RDMAHost
  let io: RDMAHost

  init(_ unit: RDMAUnit, entryCount: Int = 64) throws {
    admin = try RDMAHost(unit, entryCount: 32)
    let controller = try admin.becomeAdmin()
    io = try RDMAHost(unit, queue: 1, entryCount: entryCount)
    io.admin = admin
    #expect(
      try io.connect(queue: 1, controller: controller, size: UInt16(entryCount - 1)).status
        == .success)
  }
}
