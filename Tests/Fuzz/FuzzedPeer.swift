import FabricSimulated
import FabricVerbs
import FabricWire

@testable import FabricMessaging

/// The other end of a channel: connects or listens, and then says what it is told to.
final class FuzzedPeer {
  private static let half = 16 << 10
  private static let receiveByteCount = 1024

  let address = FabricAddress(fabric: "sim", endpoint: "peer")
  private let adapter: SimulatedAdapter
  private let domain: any ProtectionDomain
  private let queue: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let listener: any Listener
  /// The lower half receives, the upper half is sent from.
  private let memory: MemoryRegion

  init(_ adapter: SimulatedAdapter) throws {
    self.adapter = adapter
    domain = try adapter.makeProtectionDomain()
    queue = try adapter.makeCompletionQueue(capacity: 1 << 12)
    events = try adapter.makeEventChannel()
    listener = try adapter.listen(at: address, events: events)
    memory = try domain.allocate(byteCount: 2 * Self.half, access: .localWrite)
  }

  /// Connects to `target`, or takes who connects when that is nil.
  ///
  /// - Parameter turn: lets the next thing happen, no more: with nothing left to happen but the
  ///   time-out, a connection that nobody has accepted yet fails.
  func link(to target: FabricAddress?, turn: () -> Void) -> Link {
    do {
      let queuePair = try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
          sendCapacity: 1 << 10, receiveCapacity: 16))
      let receives = (0..<16).map {
        ReceiveRequest(
          id: UInt64($0),
          elements: ScatterGatherList(
            memory.element(offset: $0 * Self.receiveByteCount, byteCount: Self.receiveByteCount)))
      }
      try queuePair.postReceive(receives.span)
      if let target {
        try adapter.connect(
          queuePair, to: target, privateData: [], timeout: .seconds(5), events: events)
      }
      while true {
        turn()
        while let event = events.poll() {
          switch event {
          case .connectRequest(let request):
            try request.accept(queuePair, privateData: [], events: events)
          case .established(let other, _) where other === queuePair:
            return Link(queuePair, queue, memory)
          default: break
          }
        }
      }
    } catch {
      fatalError("\(error)")
    }
  }

  /// The peer's end of a connection.
  final class Link {
    private let queuePair: any QueuePair
    private let queue: any CompletionQueue
    private let memory: MemoryRegion
    /// The channel's buffers, once it has opened.
    private var buffers: (address: UInt64, key: RemoteKey)?

    fileprivate init(
      _ queuePair: any QueuePair, _ queue: any CompletionQueue, _ memory: MemoryRegion
    ) {
      self.queuePair = queuePair
      self.queue = queue
      self.memory = memory
    }

    func end() {
      queuePair.disconnect()
      queuePair.destroy()
    }

    func send(_ bytes: [UInt8]) {
      post(SendRequest(id: 1, opcode: .send, elements: ScatterGatherList(stage(bytes))))
    }

    /// Writes `front` where a transfer has its header, and indicates what it likes.
    func transfer(_ front: [UInt8], immediate: UInt32, offset: UInt64) {
      poll()
      guard let buffers else { return }
      let data = buffers.address + UInt64(ChannelMemory.headroomByteCount)
      post(
        SendRequest(
          id: 1, opcode: .writeWithImmediate, elements: ScatterGatherList(stage(front)),
          immediate: immediate, remoteAddress: data - UInt64(front.count) + offset,
          remoteKey: buffers.key))
    }

    private func stage(_ bytes: [UInt8]) -> ScatterGatherElement {
      for (index, byte) in bytes.enumerated() {
        unsafe memory.bytes[FuzzedPeer.half + index] = byte
      }
      return memory.element(offset: FuzzedPeer.half, byteCount: bytes.count)
    }

    /// Once the connection has ended nothing more is taken.
    private func post(_ request: SendRequest) { try? queuePair.postSend([request].span) }

    private func poll() {
      var completions = [WorkCompletion](repeating: WorkCompletion(), count: 64)
      var space = completions.mutableSpan
      let count = queue.poll(into: &space)
      for completion in completions.prefix(count)
      where completion.isReceive && completion.status == .success
        && completion.queuePairNumber == queuePair.number
      {
        let start = Int(completion.id) * FuzzedPeer.receiveByteCount
        let bytes = unsafe [UInt8](memory.bytes[start..<start + Int(completion.byteCount)])
        guard [MessageType.open, .opened].contains(where: { $0.rawValue == bytes[0] }) else {
          continue
        }
        withExactView(bytes) {
          buffers = ($0.uint64(at: 32), RemoteKey(rawValue: $0.uint32(at: 40)))
        }
      }
    }
  }
}

/// The channel's user: reads all that it is given.
final class ChannelUser: ChannelHandler {
  var keepsBuffers = false
  var answers = false
  private var kept: [(channel: Channel, id: UInt16)] = []
  private var sum = 0

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      let message = messages[index]
      for byte in message.payload.array { sum &+= Int(byte) }
      if let buffer = message.buffer {
        require(buffer.byteCount <= 4096 && buffer.id < 2, "a buffer that was not advertised")
        let data = unsafe Array(
          UnsafeRawBufferPointer(
            start: UnsafeRawPointer(bitPattern: UInt(buffer.address)), count: buffer.byteCount))
        for byte in data { sum &+= Int(byte) }
        if keepsBuffers {
          kept.append((channel, buffer.id))
        } else {
          channel.returnBuffer(buffer.id)
        }
      }
      if answers {
        withExactView([1, 2, 3]) { _ = channel.send(kind: 1, tag: message.tag, payload: $0) }
      }
    }
    channel.flush()
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    require(!"\(reason)".isEmpty, "an end without a reason")
    kept.removeAll { $0.channel === channel }
  }

  func returnOne() {
    guard let (channel, id) = kept.popLast() else { return }
    channel.returnBuffer(id)
    channel.flush()
  }
}
