import FabricPlatform
import FabricTCP
import FabricVerbs

/// One side of connections, with memory and a queue pair for the next peer.
final class Side {
  let adapter: TCPAdapter
  let domain: any ProtectionDomain
  let queue: any CompletionQueue
  let events: any ConnectionEventChannel
  let memory: MemoryRegion
  var listener: (any Listener)?
  var queuePairs: [any QueuePair] = []
  var completions: [WorkCompletion] = []
  var requests: [any ConnectionRequest] = []
  var ended: [(number: UInt32, reason: DisconnectReason)] = []
  var failed: [ConnectError] = []
  var establishedCount = 0
  /// Accepts whoever asks.
  var accepts = true

  init(_ adapter: TCPAdapter) throws {
    self.adapter = adapter
    domain = try adapter.makeProtectionDomain()
    queue = try adapter.makeCompletionQueue(capacity: 1 << 14)
    events = try adapter.makeEventChannel()
    memory = try domain.allocate(
      byteCount: 1 << 20, access: [.localWrite, .remoteWrite, .remoteRead])
  }

  /// A side that listens on this machine, at a port of the system's choice.
  static func listening(
    _ options: TCPOptions = TCPOptions(), at endpoint: String = "127.0.0.1:0"
  ) throws -> Side {
    let side = try Side(TCPAdapter(options))
    try side.listen(endpoint)
    return side
  }

  /// A peer that has come through the start-up, and has taken the reply.
  func connectRawPeer(checksums: Bool = true) throws -> RawPeer {
    let before = establishedCount
    let peer = try RawPeer(to: endpoint, checksums: checksums)
    try RawPeer.wait("connected") {
      poll()
      return establishedCount == before + 1
    }
    try peer.takeReply()
    return peer
  }

  func listen(_ endpoint: String) throws {
    listener = try adapter.listen(
      at: FabricAddress(fabric: "tcp", endpoint: endpoint), events: events)
  }

  var endpoint: String { listener?.address.endpoint ?? "" }

  func makeQueuePair(capacity: Int = 64) throws -> any QueuePair {
    let made = try adapter.makeQueuePair(
      QueuePairAttributes(
        protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
        sendCapacity: capacity, receiveCapacity: capacity))
    queuePairs.append(made)
    return made
  }

  func receive(_ id: UInt64, on queuePair: any QueuePair, offset: Int = 0, _ byteCount: Int) throws
  {
    let requests = [
      ReceiveRequest(
        id: id, elements: ScatterGatherList(memory.element(offset: offset, byteCount: byteCount)))
    ]
    try queuePair.postReceive(requests.span)
  }

  func poll() {
    while let event = events.poll() {
      switch event {
      case .connectRequest(let request):
        guard accepts else {
          requests.append(request)
          continue
        }
        guard let queuePair = try? makeQueuePair() else { continue }
        try? receive(1, on: queuePair, offset: 4096, 100)
        try? request.accept(queuePair, privateData: [], events: events)
      case .established: establishedCount += 1
      case .failed(_, let error): failed.append(error)
      case .disconnected(let queuePair, let reason): ended.append((queuePair.number, reason))
      }
    }
    var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 64)
    var space = buffer.mutableSpan
    let count = queue.poll(into: &space)
    completions += buffer[..<count]
  }

  func bytes(_ offset: Int, _ count: Int) -> [UInt8] {
    unsafe [UInt8](memory.bytes[offset..<offset + count])
  }

  deinit { for queuePair in queuePairs { queuePair.destroy() } }
}
