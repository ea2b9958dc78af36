import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricWire
import Foundation
import Testing

@testable import FabricMessaging

/// One end of a queue pair that speaks the messaging protocol by hand, if at all.
class RawEnd {
  let adapter: SharedMemoryAdapter
  let domain: any ProtectionDomain
  let queue: any CompletionQueue
  let events: any ConnectionEventChannel
  let queuePair: any QueuePair
  let memory: MemoryRegion
  private(set) var isEstablished = false
  private(set) var isOver = false
  /// Messages that came, whole.
  private(set) var received: [[UInt8]] = []

  init() throws {
    adapter = try SharedMemoryAdapter()
    domain = try adapter.makeProtectionDomain()
    queue = try adapter.makeCompletionQueue(capacity: 4096)
    events = try adapter.makeEventChannel()
    queuePair = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
        sendCapacity: 1024, receiveCapacity: 16))
    memory = try domain.allocate(byteCount: 1 << 16, access: .localWrite)
  }

  func pollEvents() {
    while let event = events.poll() {
      switch event {
      case .established: isEstablished = true
      case .disconnected, .failed: isOver = true
      case .connectRequest(let request):
        try? request.accept(queuePair, privateData: [], events: events)
      }
    }
  }

  func close() { queuePair.destroy() }

  /// Posts 16 receives of 1024 bytes.
  func postReceives() throws {
    let receives = (0..<16).map {
      ReceiveRequest(
        id: UInt64($0),
        elements: ScatterGatherList(memory.element(offset: $0 * 1024, byteCount: 1024)))
    }
    try queuePair.postReceive(receives.span)
  }

  /// Takes what has come.
  func poll() {
    pollEvents()
    var completions = [WorkCompletion](repeating: WorkCompletion(), count: 64)
    var space = completions.mutableSpan
    let count = queue.poll(into: &space)
    for completion in completions.prefix(count)
    where completion.isReceive && completion.status == .success {
      let start = Int(completion.id) * 1024
      received.append(unsafe [UInt8](memory.bytes[start..<start + Int(completion.byteCount)]))
    }
  }

  /// Puts bytes where sends may take them from.
  func stage(_ bytes: [UInt8]) -> ScatterGatherElement {
    let offset = 32 * 1024
    for (index, byte) in bytes.enumerated() { unsafe memory.bytes[offset + index] = byte }
    return memory.element(offset: offset, byteCount: bytes.count)
  }

  func send(_ bytes: [UInt8]) throws {
    try post(SendRequest(id: 1, opcode: .send, elements: ScatterGatherList(stage(bytes))))
  }

  func post(_ request: SendRequest) throws { try queuePair.postSend([request].span) }
}

/// Takes a connection, and says nothing.
final class RawAcceptor: RawEnd {
  let address = FabricAddress(
    fabric: "shm", endpoint: "/tmp/fabric-raw-\(getpid())-\(UInt32.random(in: 0 ... .max))")
  private var listener: (any Listener)?

  override init() throws {
    try super.init()
    listener = try adapter.listen(at: address, events: events)
  }
}

/// Connects to a pair's server, and says what it likes.
final class RawPeer: RawEnd {
  /// The peer's buffers, once it has opened.
  private(set) var buffers: (address: UInt64, key: RemoteKey)?
  /// Why it refused.
  private(set) var refusal: String?

  init(_ pair: Pair) throws {
    try super.init()
    try postReceives()
    let before = pair.server.channelCount
    try adapter.connect(
      queuePair, to: pair.address, privateData: [], timeout: .seconds(5), events: events)
    try pair.run {
      pollEvents()
      return isEstablished && pair.server.channelCount > before
    }
  }

  /// Reads what the peer answers to an opening.
  override func poll() {
    let before = received.count
    super.poll()
    for bytes in received[before...] {
      if bytes[0] == MessageType.refused.rawValue {
        refusal = String(decoding: bytes[MessageHeader.byteCount...], as: UTF8.self)
      } else if bytes[0] == MessageType.opened.rawValue {
        view(bytes) { view in
          buffers = (view.uint64(at: 32), RemoteKey(rawValue: view.uint32(at: 40)))
        }
      }
    }
  }

  /// Opens as an honest peer would, but for `change`.
  func open(_ change: (inout Opening) -> Void = { _ in }) throws {
    var opening = Opening(
      receiveCount: 16, messageByteCount: 1024, bufferCount: 0, bufferAddress: 0,
      bufferKey: RemoteKey(rawValue: 0), bufferByteCount: 0, takesImmediate: true,
      heartbeatMilliseconds: 60_000, greeting: [])
    change(&opening)
    var bytes = [UInt8](repeating: 0, count: Opening.fixedByteCount)
    unsafe bytes.withUnsafeMutableBytes { raw in
      let buffer = unsafe WireBuffer(raw)
      MessageHeader(type: .open).write(to: buffer)
      _ = opening.write(to: buffer)
    }
    try send(bytes)
  }

  /// Writes `front` where a transfer into buffer 0 has its header, and indicates what it likes.
  func transfer(_ front: [UInt8], immediate: UInt32, offset: UInt64 = 0) throws {
    let buffers = try #require(buffers)
    let data = buffers.address + UInt64(ChannelMemory.headroomByteCount)
    try post(
      SendRequest(
        id: 1, opcode: .writeWithImmediate, elements: ScatterGatherList(stage(front)),
        immediate: immediate, remoteAddress: data - UInt64(front.count) + offset,
        remoteKey: buffers.key))
  }
}
