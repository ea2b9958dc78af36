import FabricPlatform
import FabricVerbs
import Foundation
import Testing

@testable import FabricSharedMemory

/// A peer that speaks the socket's protocol by hand and writes into its ring what it likes.
final class HostilePeer: @unchecked Sendable {
  static let lineCount = 64
  let socket: SequencedSocket
  let file: MemoryFile
  let mapping: Mapping
  let segment: QueueSegment

  init(connectingTo path: String, isDirect: Bool = false) throws {
    socket = try SequencedSocket.connect(to: path)
    file = try MemoryFile(
      name: "hostile", byteCount: QueueSegment.byteCount(lineCount: Self.lineCount))
    mapping = try file.map(.readWrite)
    segment = QueueSegment(mapping, lineCount: Self.lineCount)
    let opening = ControlMessage.Opening(
      segmentAddress: 0, segmentByteCount: mapping.byteCount, lineCount: Self.lineCount,
      isDirect: isDirect, queuePairNumber: 1, privateData: [])
    try socket.send(
      ControlMessage.hello(opening).bytes, descriptors: [file.descriptor.rawValue])
  }

  /// Announces a file as memory, whatever it is.
  func announce(
    _ descriptor: borrowing Descriptor, address: UInt64 = 1 << 44, byteCount: UInt64,
    use: ControlMessage.SegmentUse = .readable
  ) throws {
    try socket.send(
      ControlMessage.segment(address: address, byteCount: byteCount, use: use).bytes,
      descriptors: [descriptor.rawValue])
  }

  /// Shows the victim 4 GiB, none of them touched, at 1 << 44.
  func announceMemory() throws {
    let memory = try MemoryFile(name: "hostile", byteCount: 4 << 30)
    try announce(memory.descriptor, byteCount: UInt64(memory.byteCount))
  }

  /// Writes one record at a line, its word last.
  func place(_ word: UInt32, _ fields: [UInt64], at line: UInt64) {
    let place = unsafe segment.line(line)
    for (index, field) in fields.enumerated() {
      unsafe SharedWord64(at: place + 8 + 8 * index).store(field)
    }
    unsafe SharedWord32(at: place).storeReleasing(word)
  }

  /// Fills every line of the ring with one word and one set of fields.
  func fillRing(word: UInt32, _ fields: [UInt64]) {
    for line in 0..<UInt64(Self.lineCount) { place(word, fields, at: line) }
  }
}

/// The victim: a listener with one queue pair for the next peer and one for an honest bystander, who
/// must not notice what the others do.
final class Victim {
  let adapter: SharedMemoryAdapter
  let domain: any ProtectionDomain
  let queue: any CompletionQueue
  let events: any ConnectionEventChannel
  let listener: any Listener
  let memory: MemoryRegion
  let path = "/tmp/fabric-hostile-\(getpid())-\(UInt32.random(in: 0 ... .max))"
  private let mode: SharedMemoryOptions.Mode
  private var bystander: (end: ConnectedPair.End, source: MemoryRegion, own: any QueuePair)?
  var queuePair: (any QueuePair)?
  var requestCount = 0
  /// Why the connection to the peer ended.
  var reason: DisconnectReason?

  init(_ mode: SharedMemoryOptions.Mode = .isolated) throws {
    self.mode = mode
    adapter = try SharedMemoryAdapter(SharedMemoryOptions(mode: mode))
    domain = try adapter.makeProtectionDomain()
    queue = try adapter.makeCompletionQueue(capacity: 4096)
    events = try adapter.makeEventChannel()
    listener = try adapter.listen(
      at: FabricAddress(fabric: "shm", endpoint: path), events: events)
    memory = try domain.allocate(byteCount: 4096, access: [.localWrite, .remoteWrite])
  }

  func pollEvents() throws {
    while let event = events.poll() {
      switch event {
      case .connectRequest(let request): try accept(request)
      case .disconnected(let ended, let why) where ended === queuePair: reason = why
      default: break
      }
    }
  }

  private func accept(_ request: any ConnectionRequest) throws {
    requestCount += 1
    let queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
        sendCapacity: 8, receiveCapacity: 8))
    try request.accept(queuePair, privateData: [], events: events)
    let receives = [ReceiveRequest(id: 1, elements: ScatterGatherList(memory.element))]
    try queuePair.postReceive(receives.span)
    self.queuePair = queuePair
    reason = nil
  }

  func poll() -> [WorkCompletion] {
    var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 16)
    var space = buffer.mutableSpan
    let count = queue.poll(into: &space)
    return Array(buffer.prefix(count))
  }

  /// Polls until `condition` holds; fails when it does not within 5 s.
  func wait(_ words: String, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(5)
    while try !condition() {
      try #require(MonotonicTime.now < deadline, "within 5 s it did not happen that \(words)")
      try pollEvents()
    }
  }

  func meet() throws -> HostilePeer {
    let peer = try HostilePeer(connectingTo: path, isDirect: mode == .direct)
    try wait("the peer is met") { queuePair?.state == .readyToSend }
    return peer
  }

  func part() throws {
    queuePair?.destroy()
    queuePair = nil
    try pollEvents()
    _ = poll()
  }

  /// Lets `attack` loose on a connection of its own, which must end for a reason with these words;
  /// with nil it must stay.
  func suffers(
    _ name: String, expecting words: String?, _ attack: (HostilePeer) throws -> Void
  ) throws {
    if bystander == nil { try meetBystander() }
    let peer = try meet()
    try attack(peer)
    if let words {
      try wait("\(name) ends the connection") {
        _ = poll()
        return reason != nil
      }
      #expect(queuePair?.state == .error, "\(name)")
      #expect("\(reason!)".contains(words), "\(name) ended with: \(reason!)")
    }
    try expectBystanderServed(name)
    if words == nil {
      #expect(queuePair?.state == .readyToSend, "\(name): \(String(describing: reason))")
    }
    try part()
  }

  private func meetBystander() throws {
    let end = try ConnectedPair.End(mode)
    try end.adapter.connect(
      end.queuePair, to: FabricAddress(fabric: "shm", endpoint: path), privateData: [],
      timeout: .seconds(5), events: end.events)
    try wait("the bystander is connected") {
      try end.pollEvents()
      return end.isEstablished && queuePair?.state == .readyToSend
    }
    let source = try end.domain.allocate(byteCount: 4096, access: [])
    bystander = (end, source, queuePair!)
    queuePair = nil
  }

  /// A message of the bystander, too long to travel in a record, still comes through.
  private func expectBystanderServed(_ attack: String) throws {
    let (end, source, own) = bystander!
    let send = [
      SendRequest(
        id: 1, opcode: .send, elements: ScatterGatherList(source.element(byteCount: 500)))
    ]
    try end.queuePair.postSend(send.span)
    var status: WorkCompletionStatus?
    try wait("the bystander is served during \(attack)") {
      status = status ?? poll().first { $0.queuePairNumber == own.number }?.status
      return status != nil
    }
    #expect(status == .success, "\(attack)")
    try wait("the bystander is told") {
      end.poll()
      return !end.completions.isEmpty
    }
    #expect(end.completions.map(\.status) == [.success], "\(attack)")
    end.completions = []
    let receives = [ReceiveRequest(id: 1, elements: ScatterGatherList(memory.element))]
    try own.postReceive(receives.span)
  }

  /// Ends everything, the bystander too.
  func close() {
    bystander?.end.queuePair.destroy()
    bystander?.own.destroy()
    bystander = nil
    listener.close()
    _ = poll()
  }
}
