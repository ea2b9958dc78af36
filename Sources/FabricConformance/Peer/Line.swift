import FabricPlatform
import FabricVerbs

/// One end of a connection whose every byte is the judge's own, with all that came over it.
///
/// Threads: confined to one, which waits in `wait`.
final class Line {
  /// What a receive took.
  enum Arrival {
    case message([UInt8])
    case immediate(UInt32)
  }

  /// How the fabric's connection is made.
  struct Shape {
    var receiveCount = 64
    var messageByteCount = 1024
    /// Whether a receive that was used is posted anew at once.
    var reposts = true
  }

  let adapter: any Adapter
  let number: Int
  private let log: FrameLog
  private let shape: Shape
  private let domain: any ProtectionDomain
  private let queue: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let queuePair: any QueuePair
  private let receives: MemoryRegion
  private let staging: MemoryRegion
  private let poller: Poller
  private var stagedCount = 0
  private var pendingCount = 0

  private(set) var isEstablished = false
  /// Why the connection is over.
  private(set) var end: String?
  /// What the peer said that rejected it.
  private(set) var rejection: [UInt8]?
  /// What came and was not taken yet, in order.
  private(set) var arrivals: [Arrival] = []
  /// What came in all.
  private(set) var arrivalCount = 0
  /// Receives posted anew in all.
  private(set) var repostedCount: UInt32 = 0
  private var usedReceives: [UInt64] = []
  private(set) var lastArrival = MonotonicTime.now

  static let stagingSlotCount = 32
  private var slotByteCount: Int { staging.byteCount / Self.stagingSlotCount }

  init(_ adapter: any Adapter, _ log: FrameLog, _ shape: Shape = Shape()) throws {
    self.adapter = adapter
    self.log = log
    self.shape = shape
    number = log.nextConnection()
    domain = try adapter.makeProtectionDomain()
    let capacity = min(4096, adapter.capabilities.maximumCompletionCount)
    queue = try adapter.makeCompletionQueue(capacity: capacity)
    events = try adapter.makeEventChannel()
    queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
        sendCapacity: 256, receiveCapacity: max(8, shape.receiveCount)))
    receives = try domain.allocate(
      byteCount: shape.receiveCount * shape.messageByteCount, access: .localWrite)
    staging = try domain.allocate(byteCount: Self.stagingSlotCount * 8192, access: .localWrite)
    poller = try Poller()
    if let descriptor = queue.descriptor { try poller.add(descriptor, tag: 0) }
    if let descriptor = events.descriptor { try poller.add(descriptor, tag: 1) }
    try post((0..<UInt64(shape.receiveCount)).map { $0 })
  }

  /// Gives everything back; the peer is told.
  func close() {
    queuePair.disconnect()
    queuePair.destroy()
    domain.deregister(receives)
    domain.deregister(staging)
  }

  // MARK: Connecting

  /// Starts to connect.
  func connect(to address: FabricAddress, timeout: Duration) throws {
    try adapter.connect(
      queuePair, to: address, privateData: [], timeout: timeout, events: events)
    log.add(number, "connects to \(address)")
  }

  /// Starts to accept.
  func accept(_ request: any ConnectionRequest) throws {
    try request.accept(queuePair, privateData: [], events: events)
    log.add(number, "accepts \(request.peerDescription)")
  }

  /// The peer has said that it closes: it is left to itself, as an honest peer leaves it.
  func leave() {
    end = end ?? "the peer's `close`"
    queuePair.disconnect()
  }

  /// Throws once the case has had its time.
  func checkTime() throws { try log.checkTime() }

  func disconnect() {
    log.add(number, "hangs up")
    queuePair.disconnect()
  }

  // MARK: Memory

  /// Memory that the peer may be let write to.
  func allocate(byteCount: Int) throws -> MemoryRegion {
    try domain.allocate(byteCount: byteCount, access: [.localWrite, .remoteWrite])
  }

  func grantWrites(to region: MemoryRegion) throws -> RemoteKey {
    try domain.grant(
      .remoteWrite, to: region, offset: 0, byteCount: region.byteCount, only: queuePair)
  }

  func revoke(_ key: RemoteKey) { domain.revoke(key) }

  // MARK: Sending

  /// Sends bytes as they are.
  func send(_ bytes: [UInt8]) throws {
    log.add(number, "sends \(Self.words(for: bytes))", bytes)
    try post(SendRequest(id: .max, opcode: .send, elements: ScatterGatherList(stage(bytes))))
  }

  func send(_ message: MessageRecord) throws { try send(message.bytes) }

  /// Writes bytes to the peer's memory; with an immediate it is told.
  func write(_ bytes: [UInt8], to address: UInt64, key: UInt32, immediate: UInt32? = nil) throws {
    let telling = immediate.map { ", immediate 0x\(String($0, radix: 16))" } ?? ""
    log.add(
      number, "writes \(bytes.count) bytes to 0x\(String(address, radix: 16))\(telling)", bytes)
    try post(
      SendRequest(
        id: .max, opcode: immediate == nil ? .write : .writeWithImmediate,
        elements: ScatterGatherList(stage(bytes)), immediate: immediate ?? 0,
        remoteAddress: address, remoteKey: RemoteKey(rawValue: key)))
  }

  private func stage(_ bytes: [UInt8]) -> ScatterGatherElement {
    precondition(bytes.count <= slotByteCount, "at most \(slotByteCount) bytes at once")
    // A slot is free again when as many requests have ended as there are slots.
    if pendingCount >= Self.stagingSlotCount {
      _ = wait(.seconds(5)) { pendingCount < Self.stagingSlotCount || end != nil }
    }
    let offset = stagedCount % Self.stagingSlotCount * slotByteCount
    stagedCount += 1
    for (index, byte) in bytes.enumerated() { unsafe staging.bytes[offset + index] = byte }
    return staging.element(offset: offset, byteCount: bytes.count)
  }

  private func post(_ request: SendRequest) throws {
    do {
      try queuePair.postSend([request].span)
      pendingCount += 1
    } catch {
      poll()
      throw Finding("expected that the peer keeps the connection, got \(end ?? "\(error)")")
    }
  }

  // MARK: Receiving

  private func post(_ ids: [UInt64]) throws {
    let requests = ids.map { id in
      ReceiveRequest(
        id: id,
        elements: ScatterGatherList(
          receives.element(
            offset: Int(id) * shape.messageByteCount, byteCount: shape.messageByteCount)))
    }
    try queuePair.postReceive(requests.span)
  }

  /// Posts what was used anew, where that is not done at once.
  func repost() throws {
    try post(usedReceives)
    repostedCount &+= UInt32(usedReceives.count)
    usedReceives = []
  }

  /// Takes what came first.
  func takeArrival() -> Arrival? { arrivals.isEmpty ? nil : arrivals.removeFirst() }

  /// Waits until something holds; false when it did not by then.
  @discardableResult
  func wait(_ limit: Duration, until isDone: () throws -> Bool) rethrows -> Bool {
    let deadline = MonotonicTime.now + limit
    while true {
      poll()
      if try isDone() { return true }
      let now = MonotonicTime.now
      guard now < deadline else { return false }
      queue.arm()
      // What comes from here on wakes; what came before is seen in the next round.
      let before = arrivalCount
      poll()
      // A fabric without a descriptor is polled.
      if arrivalCount == before && end == nil && queue.descriptor != nil {
        let left = deadline.nanoseconds(since: now)
        poller.wait(timeout: .nanoseconds(Int64(min(left, 20_000_000)))) { _ in }
      }
      queue.disarm()
    }
  }

  /// Takes what the fabric has to tell.
  func poll() {
    var completions = [WorkCompletion](repeating: WorkCompletion(), count: 64)
    // A peer that never stops is not to keep the judge here.
    for _ in 0..<16 {
      var space = completions.mutableSpan
      let count = queue.poll(into: &space)
      for completion in completions.prefix(count) { take(completion) }
      if count == 0 { break }
    }
    while let event = events.poll() { take(event) }
  }

  private func take(_ completion: WorkCompletion) {
    guard completion.id != .max else {
      pendingCount -= 1
      return
    }
    guard completion.isReceive, completion.status == .success else { return }
    lastArrival = .now
    arrivalCount += 1
    if completion.opcode == .receiveWriteImmediate {
      arrivals.append(.immediate(completion.immediate))
      log.add(number, "got the immediate 0x\(String(completion.immediate, radix: 16))")
    } else {
      let start = Int(completion.id) * shape.messageByteCount
      let bytes = unsafe [UInt8](receives.bytes[start..<start + Int(completion.byteCount)])
      arrivals.append(.message(bytes))
      log.add(number, "got \(Self.words(for: bytes))", bytes)
    }
    usedReceives.append(completion.id)
    if shape.reposts { try? repost() }
  }

  private func take(_ event: ConnectionEvent) {
    switch event {
    case .established: isEstablished = true
    case .failed(_, .rejected(let data)):
      rejection = data
      end = "rejected: \"\(data.text(at: 1, byteCount: data.count))\""
    case .failed(_, let error): end = "\(error)"
    case .disconnected(_, let reason): end = end ?? "\(reason)"
    case .connectRequest(let request): request.reject(privateData: [])
    }
    if let end { log.add(number, "is over: \(end)") }
  }

  private static func words(for bytes: [UInt8]) -> String {
    MessageRecord(bytes).map { "\($0)" } ?? "\(bytes.count) bytes, which is no message"
  }
}
