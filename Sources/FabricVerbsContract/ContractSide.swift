import FabricVerbs

/// One end of a connection under test, with all that belongs to it.
final class ContractSide {
  /// Capacities and rights.
  struct Shape {
    var sendCapacity = 64
    var receiveCapacity = 64
    var sendCompletionCapacity = 256
    var receiveCompletionCapacity = 256
    var memoryByteCount = 1 << 16
    var access: AccessRights = [.localWrite, .remoteWrite, .remoteRead]
    var sharesReceives = false
  }

  let adapter: any Adapter
  private let distant: (any DistantAdapter)?
  let domain: any ProtectionDomain
  let sendCompletionQueue: any CompletionQueue
  let receiveCompletionQueue: any CompletionQueue
  let sharedReceiveQueue: (any SharedReceiveQueue)?
  let channel: any ConnectionEventChannel
  let memory: MemoryRegion
  let shape: Shape
  var queuePair: any QueuePair
  /// What was polled.
  var sends: [WorkCompletion] = []
  var receives: [WorkCompletion] = []
  var events: [ConnectionEvent] = []

  init(_ adapter: any Adapter, _ shape: Shape = Shape()) throws {
    self.adapter = adapter
    distant = adapter as? any DistantAdapter
    self.shape = shape
    domain = try adapter.makeProtectionDomain()
    sendCompletionQueue = try adapter.makeCompletionQueue(capacity: shape.sendCompletionCapacity)
    receiveCompletionQueue = try adapter.makeCompletionQueue(
      capacity: shape.receiveCompletionCapacity)
    sharedReceiveQueue =
      shape.sharesReceives
      ? try adapter.makeSharedReceiveQueue(in: domain, capacity: shape.receiveCapacity) : nil
    channel = try adapter.makeEventChannel()
    memory = try domain.allocate(byteCount: shape.memoryByteCount, access: shape.access)
    queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: sendCompletionQueue,
        receiveCompletionQueue: receiveCompletionQueue, sendCapacity: shape.sendCapacity,
        receiveCapacity: shape.receiveCapacity, sharedReceiveQueue: sharedReceiveQueue))
  }

  /// A further queue pair of the same make.
  func makeQueuePair() throws -> any QueuePair {
    try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: sendCompletionQueue,
        receiveCompletionQueue: receiveCompletionQueue, sendCapacity: shape.sendCapacity,
        receiveCapacity: shape.receiveCapacity, sharedReceiveQueue: sharedReceiveQueue))
  }

  // MARK: Work

  func send(
    _ id: UInt64, offset: Int = 0, _ byteCount: Int, flags: SendFlags = .signaled,
    immediate: UInt32? = nil
  ) throws(PostError) {
    try post(
      SendRequest(
        id: id, opcode: immediate == nil ? .send : .sendWithImmediate,
        elements: ScatterGatherList(memory.element(offset: offset, byteCount: byteCount)),
        flags: flags, immediate: immediate ?? 0))
  }

  func post(_ request: SendRequest) throws(PostError) { try post([request]) }
  func post(_ requests: [SendRequest]) throws(PostError) { try queuePair.postSend(requests.span) }

  /// A write to `target`, or a read from it.
  func reach(
    _ opcode: SendOpcode, _ id: UInt64, offset: Int = 0, _ byteCount: Int, at address: UInt64,
    key: RemoteKey?, flags: SendFlags = .signaled, immediate: UInt32 = 0
  ) throws(PostError) {
    try post(
      SendRequest(
        id: id, opcode: opcode,
        elements: ScatterGatherList(memory.element(offset: offset, byteCount: byteCount)),
        flags: flags, immediate: immediate, remoteAddress: address,
        remoteKey: key ?? RemoteKey(rawValue: 0)))
  }

  func receive(_ id: UInt64, offset: Int = 0, _ byteCount: Int) throws(PostError) {
    let request = ReceiveRequest(
      id: id, elements: ScatterGatherList(memory.element(offset: offset, byteCount: byteCount)))
    let requests = [request]
    if let sharedReceiveQueue {
      try sharedReceiveQueue.postReceive(requests.span)
    } else {
      try queuePair.postReceive(requests.span)
    }
  }

  /// Moves everything that has ended to `sends` and `receives`, all events to `events`.
  func poll() {
    pollEvents()
    sends += Self.drain(sendCompletionQueue)
    receives += Self.drain(receiveCompletionQueue)
  }

  func pollEvents() {
    while let event = channel.poll() { events.append(event) }
  }

  static func drain(_ queue: any CompletionQueue, atMost limit: Int = 64) -> [WorkCompletion] {
    var all: [WorkCompletion] = []
    var buffer = [WorkCompletion](repeating: WorkCompletion(), count: limit)
    while true {
      var space = buffer.mutableSpan
      let count = queue.poll(into: &space)
      if count == 0 { return all }
      all += buffer[..<count]
    }
  }

  var capabilities: AdapterCapabilities { adapter.capabilities }

  /// `value` where sends carry immediates; else nil.
  func immediate(_ value: UInt32) -> UInt32? { capabilities.hasImmediateSend ? value : nil }

  // MARK: Memory

  /// The bytes of a region of this side.
  func contents(of region: MemoryRegion, offset: Int = 0, _ byteCount: Int) -> [UInt8] {
    if let distant {
      return distant.load(from: region.address + UInt64(offset), byteCount: byteCount)
    }
    return unsafe [UInt8](region.bytes[offset..<offset + byteCount])
  }

  /// Writes a pattern that `seed` tells from others.
  func fill(_ seed: Int, offset: Int = 0, _ byteCount: Int) {
    let bytes = Self.pattern(seed, byteCount)
    if let distant { return distant.store(bytes, at: memory.address + UInt64(offset)) }
    unsafe UnsafeMutableRawBufferPointer(rebasing: memory.bytes[offset...]).copyBytes(from: bytes)
  }

  /// Whether the pattern of `seed` is there.
  func holds(_ seed: Int, offset: Int = 0, _ byteCount: Int) -> Bool {
    contents(of: memory, offset: offset, byteCount) == Self.pattern(seed, byteCount)
  }

  func isZero(offset: Int = 0, _ byteCount: Int) -> Bool {
    contents(of: memory, offset: offset, byteCount).allSatisfy { $0 == 0 }
  }

  private static func pattern(_ seed: Int, _ byteCount: Int) -> [UInt8] {
    (0..<byteCount).map { UInt8(truncatingIfNeeded: seed &* 31 &+ $0 &* 7 &+ 1) }
  }

  // MARK: Events

  var isEstablished: Bool {
    events.contains { event in
      if case .established(let ended, _) = event { ended === queuePair } else { false }
    }
  }

  /// Why the connection ended; nil when it has not, as far as was told.
  var disconnectReason: DisconnectReason? {
    for event in events {
      if case .disconnected(let ended, let reason) = event, ended === queuePair { return reason }
    }
    return nil
  }

  /// Why it was not made.
  var connectError: ConnectError? {
    for event in events {
      if case .failed(let failed, let error) = event, failed === queuePair { return error }
    }
    return nil
  }

  /// What this side was told of its connection, in words.
  var news: String {
    if let connectError { return "was refused (\(connectError))" }
    if let disconnectReason { return "is disconnected (\(disconnectReason))" }
    return isEstablished ? "is established" : "was told nothing"
  }

  /// Takes the oldest request of a peer.
  func takeConnectRequest() -> (any ConnectionRequest)? {
    for (index, event) in events.enumerated() {
      if case .connectRequest(let request) = event {
        events.remove(at: index)
        return request
      }
    }
    return nil
  }
}
