import FabricVerbs
import Foundation

struct TalkError: Error, CustomStringConvertible {
  let description: String
  init(_ description: String) { self.description = description }
}

/// One connection with what it needs: a queue pair, a completion queue, a page of memory with a
/// place for each of a message that comes, one that goes, and the data.
final class Talk {
  private let adapter: any Adapter
  private let domain: any ProtectionDomain
  private let completions: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let queuePair: any QueuePair
  private let memory: MemoryRegion
  private static let outgoing = 0
  private static let incoming = 64
  private static let dataOffset = 128

  private var isConnected = false
  /// Why there is no connection any more.
  private var end: DisconnectReason?
  private var failure: TalkError?
  private var request: (any ConnectionRequest)?
  private var received: [[UInt8]] = []
  private var endedCount: UInt64 = 0
  private var postedCount: UInt64 = 0

  init(_ adapter: any Adapter) throws {
    self.adapter = adapter
    domain = try adapter.makeProtectionDomain()
    completions = try adapter.makeCompletionQueue(capacity: 64)
    events = try adapter.makeEventChannel()
    memory = try domain.allocate(
      byteCount: 4096, access: [.localWrite, .remoteRead, .remoteWrite])
    queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: completions,
        receiveCompletionQueue: completions, sendCapacity: 16, receiveCapacity: 16))
    // Before anybody can send: a message without a receive ends an iWARP connection.
    try postReceive()
  }

  deinit { queuePair.destroy() }

  // MARK: Connecting

  func connect(to address: FabricAddress, within limit: Duration) throws {
    try adapter.connect(
      queuePair, to: address, privateData: [], timeout: limit, events: events)
    try wait(within: limit, for: "a connection to \(address.endpoint)") { isConnected }
  }

  func listen(at address: FabricAddress) throws -> any Listener {
    try adapter.listen(at: address, events: events)
  }

  func accept(within limit: Duration?) throws {
    try wait(within: limit, for: "a client") { request != nil }
    try request?.accept(queuePair, privateData: [], events: events)
    try wait(within: limit, for: "the connection") { isConnected }
  }

  func disconnect() { queuePair.disconnect() }

  // MARK: Messages and data

  /// What the data's place holds.
  var data: [UInt8] {
    get { bytes(Self.dataOffset, RPing.byteCount) }
    set { put(newValue, Self.dataOffset) }
  }

  var ownBuffer: BufferName {
    BufferName(
      address: memory.address + UInt64(Self.dataOffset),
      key: memory.remoteKey ?? RemoteKey(rawValue: 0), byteCount: UInt32(RPing.byteCount))
  }

  func send(_ name: BufferName) throws {
    put(name.bytes, Self.outgoing)
    try post(.send, memory.element(offset: Self.outgoing, byteCount: BufferName.byteCount))
  }

  /// The next message; nil when the peer has ended the connection in order.
  func receive(within limit: Duration?) throws -> BufferName? {
    try wait(within: limit, for: "a message") { !received.isEmpty || end == .peer }
    guard !received.isEmpty else { return nil }
    let bytes = received.removeFirst()
    guard let name = BufferName(bytes) else {
      throw TalkError("expected a message of \(BufferName.byteCount) bytes, got \(bytes.count)")
    }
    return name
  }

  /// Fetches the peer's bytes into the data's place.
  func read(_ source: BufferName, within limit: Duration) throws {
    try post(.read, memory.element(offset: Self.dataOffset, byteCount: RPing.byteCount), source)
    let number = postedCount
    try wait(within: limit, for: "the end of an RDMA read") { endedCount >= number }
  }

  /// Puts the data into the peer's buffer; it is there before the next message.
  func write(_ sink: BufferName) throws {
    try post(.write, memory.element(offset: Self.dataOffset, byteCount: RPing.byteCount), sink)
  }

  // MARK: Verbs

  private func post(
    _ opcode: SendOpcode, _ element: ScatterGatherElement, _ remote: BufferName? = nil
  ) throws {
    postedCount += 1
    let requests = [
      SendRequest(
        id: postedCount, opcode: opcode, elements: ScatterGatherList(element),
        remoteAddress: remote?.address ?? 0, remoteKey: remote?.key ?? RemoteKey(rawValue: 0))
    ]
    try queuePair.postSend(requests.span)
  }

  private func postReceive() throws {
    let place = memory.element(offset: Self.incoming, byteCount: 64)
    let requests = [ReceiveRequest(id: 0, elements: ScatterGatherList(place))]
    try queuePair.postReceive(requests.span)
  }

  /// Carries everything on until `condition` holds; sleeps when there is nothing to do.
  private func wait(
    within limit: Duration?, for what: String, until condition: () -> Bool
  ) throws {
    let deadline = limit.map { ContinuousClock.now + $0 }
    while true {
      let didSomething = try poll()
      if condition() { return }
      if let failure { throw failure }
      if let end { throw TalkError("waiting for \(what), the connection ended: \(end)") }
      if let deadline, ContinuousClock.now > deadline {
        throw TalkError("\(what) did not come within \(limit!)")
      }
      if !didSomething { try sleep() }
    }
  }

  /// Until something happens, at most 100 ms.
  private func sleep() throws {
    completions.arm()
    defer { completions.disarm() }
    // What came before it was armed is not announced.
    guard try !poll() else { return }
    var waiting = [completions.descriptor, events.descriptor].compactMap {
      $0.map { pollfd(fd: $0, events: Int16(POLLIN), revents: 0) }
    }
    _ = unsafe Foundation.poll(&waiting, nfds_t(waiting.count), 100)
  }

  /// - Returns: whether there was something.
  private func poll() throws -> Bool {
    var count = 0
    while let event = events.poll() {
      count += 1
      switch event {
      case .connectRequest(let request): if self.request == nil { self.request = request }
      case .established: isConnected = true
      case .failed(_, let error): failure = TalkError("\(error)")
      case .disconnected(_, let reason): end = reason
      }
    }
    var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 16)
    var space = buffer.mutableSpan
    let completed = completions.poll(into: &space)
    for completion in buffer[..<completed] { try take(completion) }
    return count + completed > 0
  }

  private func take(_ completion: WorkCompletion) throws {
    guard completion.status == .success else {
      if completion.status != .flushed {
        failure = TalkError("a \(completion.opcode) ended with \(completion.status)")
      }
      return
    }
    guard completion.isReceive else { return endedCount = completion.id }
    received.append(bytes(Self.incoming, Int(completion.byteCount)))
    try postReceive()
  }

  private func bytes(_ offset: Int, _ count: Int) -> [UInt8] {
    unsafe [UInt8](memory.bytes[offset..<offset + count])
  }

  private func put(_ bytes: [UInt8], _ offset: Int) {
    unsafe UnsafeMutableRawBufferPointer(rebasing: memory.bytes[offset...]).copyBytes(from: bytes)
  }
}
