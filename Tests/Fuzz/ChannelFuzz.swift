import FabricCompletion
import FabricSimulated
import FabricVerbs
import FabricWire

@testable import FabricMessaging

/// A channel whose peer does as the input says, over a simulated fabric. Offset 0: bits 0 it does not
/// begin with an honest opening, 1 the channel's user keeps buffers, 2 it answers. Then steps of the
/// peer.
func fuzzChannel(_ input: FuzzInput) {
  var input = input
  unsafe ChannelBench.shared.run(&input)
}

/// A listening endpoint, and an adapter for the peers that come one after another.
private final class ChannelBench {
  nonisolated(unsafe) static let shared = ChannelBench()

  private let network = SimulatedNetwork(seed: 1)
  private let service: CompletionService
  private let endpoint: ChannelEndpoint
  private let user = User()
  private let peer: SimulatedAdapter
  private let domain: any ProtectionDomain
  private let queue: any CompletionQueue
  private let events: any ConnectionEventChannel
  /// The lower half receives, the upper half is sent from.
  private let memory: MemoryRegion
  private let address = FabricAddress(fabric: "sim", endpoint: "here")
  private static let half = 16 << 10
  private static let receiveByteCount = 1024

  private init() {
    do {
      service = try CompletionService()
      endpoint = try ChannelEndpoint(
        adapter: network.makeAdapter(name: "channel"), service: service)
      peer = network.makeAdapter(name: "peer")
      domain = try peer.makeProtectionDomain()
      queue = try peer.makeCompletionQueue(capacity: 1 << 12)
      events = try peer.makeEventChannel()
      memory = try domain.allocate(byteCount: 2 * Self.half, access: .localWrite)
      var options = ChannelOptions()
      options.receiveCount = 8
      options.sendCount = 8
      options.bufferCount = 2
      options.bufferByteCount = 4096
      _ = try endpoint.listen(at: address, options: options) { [user] greeting, _ in
        greeting.first == 0xff ? .reject(reason: "not you") : .accept(greeting: [1], handler: user)
      }
    } catch {
      fatalError("\(error)")
    }
  }

  func run(_ input: inout FuzzInput) {
    let flags = input.byte()
    user.keepsBuffers = flags & 2 != 0
    user.answers = flags & 4 != 0
    let link = connect()
    if flags & 1 == 0 { link.send(opening(input.byte())) }
    settle()
    while !input.isEmpty { step(link, &input) }
    settle()
    link.queuePair.disconnect()
    link.queuePair.destroy()
    for _ in 0..<1000 where endpoint.channelCount > 0 { settle() }
    require(endpoint.channelCount == 0, "a channel outlives its peer")
  }

  private func step(_ link: Link, _ input: inout FuzzInput) {
    switch input.number(below: 6) {
    case 0: link.send(input.bytes(input.number(below: 256)))
    case 1:
      // A header whose fields are small, so that more of them mean something.
      let type = 1 + UInt8(input.number(below: 8))
      let header: [UInt8] = [type, input.byte() & 1, 0, 0, 1, 0, 0, 0]
      let counts: [UInt8] = [input.byte(), 0, 0, 0, input.byte(), 0, 255, 255]
      link.send(header + counts + input.bytes(input.number(below: 64)))
    case 2:
      let front = input.bytes(input.number(below: 128))
      let immediate = withExactView(input.bytes(4) + [0, 0, 0, 0]) { $0.uint32(at: 0) }
      link.transfer(front, immediate: immediate, offset: UInt64(input.byte()))
    case 3:
      let front = [4, 0, 0, 0, 1, 0, 0, 0, input.byte(), 0, 0, 0, 255, 255, 255, 255]
      let buffer = UInt32(input.byte() & 3)
      link.transfer(
        front + input.bytes(buffer == 3 ? 7 : 0), immediate: 16 << 16 | buffer, offset: 0)
    case 4: settle()
    default: user.returnOne()
    }
  }

  /// Lets everything happen that will.
  private func settle() {
    repeat { service.turn() } while network.step()
    service.turn()
  }

  /// An opening as an honest peer sends it, but for a greeting of the input's.
  private func opening(_ greeting: UInt8) -> [UInt8] {
    let opening = Opening(
      receiveCount: 8, messageByteCount: 256, bufferCount: 0, bufferAddress: 0,
      bufferKey: RemoteKey(rawValue: 0), bufferByteCount: 0, takesImmediate: true,
      heartbeatMilliseconds: 60_000, greeting: [greeting])
    return written(Opening.fixedByteCount + 1) { buffer in
      buffer.clear()
      MessageHeader(type: .open).write(to: buffer)
      _ = opening.write(to: buffer)
    }
  }

  private func connect() -> Link {
    do {
      let queuePair = try peer.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
          sendCapacity: 1 << 10, receiveCapacity: 16))
      let link = Link(queuePair, queue, memory, half: Self.half)
      let receives = (0..<16).map {
        ReceiveRequest(
          id: UInt64($0),
          elements: ScatterGatherList(
            memory.element(offset: $0 * Self.receiveByteCount, byteCount: Self.receiveByteCount)))
      }
      try queuePair.postReceive(receives.span)
      try peer.connect(
        queuePair, to: address, privateData: [], timeout: .seconds(5), events: events)
      var isEstablished = false
      while !isEstablished {
        settle()
        while let event = events.poll() {
          if case .established = event { isEstablished = true }
        }
      }
      return link
    } catch {
      fatalError("\(error)")
    }
  }

  /// The peer's end of a connection.
  final class Link {
    let queuePair: any QueuePair
    private let queue: any CompletionQueue
    private let memory: MemoryRegion
    private let half: Int
    /// The channel's buffers, once it has opened.
    private var buffers: (address: UInt64, key: RemoteKey)?

    init(
      _ queuePair: any QueuePair, _ queue: any CompletionQueue, _ memory: MemoryRegion, half: Int
    ) {
      self.queuePair = queuePair
      self.queue = queue
      self.memory = memory
      self.half = half
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
      for (index, byte) in bytes.enumerated() { unsafe memory.bytes[half + index] = byte }
      return memory.element(offset: half, byteCount: bytes.count)
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
        let start = Int(completion.id) * ChannelBench.receiveByteCount
        let bytes = unsafe [UInt8](memory.bytes[start..<start + Int(completion.byteCount)])
        guard bytes[0] == MessageType.opened.rawValue else { continue }
        withExactView(bytes) {
          buffers = ($0.uint64(at: 32), RemoteKey(rawValue: $0.uint32(at: 40)))
        }
      }
    }
  }

  /// The channel's user: reads all that it is given.
  final class User: ChannelHandler {
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
}
