import FabricIWARP
import FabricPlatform
import FabricTCP
import FabricVerbs
import FabricWire

/// The TCP adapter with a peer that does as the input says, over real sockets. Offset 0: bits 0 the
/// rest are bytes in place of a start-up, 1 the rest are bytes behind it, 2 the peer wants checksums,
/// 3 markers, 4 the adapter's user sends and reads. Then segments of the peer.
///
/// Whatever comes: what the peer has no key for neither changes nor gets out, and a connection that
/// the peer ends comes to its end.
func fuzzTCP(_ input: FuzzInput) {
  var input = input
  unsafe TCPBench.shared.run(&input)
}

private final class TCPBench {
  nonisolated(unsafe) static let shared = TCPBench()
  /// Fills what the peer has no key for. Another one each time, so that no input can have it.
  private var secret: [UInt8] = []
  private static let regionByteCount = 4096

  private let adapter: TCPAdapter
  private let domain: any ProtectionDomain
  private let queue: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let listener: any Listener
  private let target: InternetAddress
  /// What the peer may write and read, what it may read, and what it has no key for.
  private let open: MemoryRegion
  private let readable: MemoryRegion
  private let closed: MemoryRegion
  private var queuePair: (any QueuePair)?
  private var userTalks = false

  private init() {
    do {
      var options = TCPOptions()
      options.checksums = .never
      adapter = try TCPAdapter(options)
      domain = try adapter.makeProtectionDomain()
      queue = try adapter.makeCompletionQueue(capacity: 256)
      events = try adapter.makeEventChannel()
      listener = try adapter.listen(
        at: FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0"), events: events)
      target = try InternetAddress.resolve(listener.address.endpoint)[0]
      let count = Self.regionByteCount
      open = try domain.allocate(
        byteCount: count, access: [.localWrite, .remoteWrite, .remoteRead])
      readable = try domain.allocate(byteCount: count, access: .remoteRead)
      closed = try domain.allocate(byteCount: count, access: .localWrite)
      for index in 0..<count { unsafe readable.bytes[index] = 0x55 }
    } catch {
      fatalError("\(error)")
    }
  }

  func run(_ input: inout FuzzInput) {
    let flags = input.byte()
    userTalks = flags & 16 != 0
    secret = (0..<8).map { _ in UInt8.random(in: 0 ... .max) }
    for index in 0..<Self.regionByteCount { unsafe closed.bytes[index] = secret[index & 7] }
    let peer = FuzzedTCPPeer(target)
    if flags & 1 != 0 {
      peer.send(input.remainder())
    } else {
      var options = StartUp.Options()
      options.wantsChecksums = flags & 4 != 0
      options.wantsMarkers = flags & 8 != 0
      options.inboundReadDepth = 4
      options.outboundReadDepth = 4
      peer.start(options) { turn() }
      if flags & 2 != 0 {
        peer.send(input.remainder())
      } else {
        while !input.isEmpty { step(peer, &input) }
      }
    }
    finish(peer)
    check(peer)
  }

  /// One segment of the peer's.
  private func step(_ peer: FuzzedTCPPeer, _ input: inout FuzzInput) {
    let opcode = MessageOpcode(rawValue: UInt8(input.number(below: 10)))!
    let flags = input.byte()
    let region = flags & 1 == 0 ? open : readable
    let key = flags & 2 == 0 ? region.remoteKey! : RemoteKey(rawValue: UInt32(input.byte()))
    let place = region.address + UInt64(input.byte()) * 17
    let byteCount = UInt32(input.byte()) << (flags >> 6)
    var payload: [UInt8]
    switch opcode {
    case .readRequest:
      let request = ReadRequestHeader(
        sinkKey: RemoteKey(rawValue: 1), sinkOffset: 0, byteCount: byteCount, sourceKey: key,
        sourceOffset: place)
      payload = written(ReadRequestHeader.byteCount, request.write)
    case .immediate, .immediateWithSolicitedEvent: payload = [0, 0, 0, 0, 1, 2, 3, 4]
    case .terminate: payload = TerminateMessage(TerminateCause.RDMAP.noRight).bytes
    default: payload = [UInt8](repeating: 0x33, count: Int(byteCount))
    }
    if flags & 4 != 0 { payload += input.bytes(3) }
    peer.send(
      opcode, isLast: flags & 8 == 0, key: key, place: place, payload,
      skew: flags & 16 == 0 ? 0 : UInt32(input.byte()))
    if flags & 32 != 0 { turn() }
  }

  /// Lets the adapter and its user do what is to be done now.
  private func turn() {
    while let event = events.poll() {
      switch event {
      case .connectRequest(let request): accept(request)
      case .established(let queuePair, _): if userTalks { talk(queuePair) }
      case .failed(let queuePair, _), .disconnected(let queuePair, _): queuePair.destroy()
      }
    }
    var completions = [WorkCompletion](repeating: WorkCompletion(), count: 16)
    var space = completions.mutableSpan
    _ = queue.poll(into: &space)
  }

  private func accept(_ request: any ConnectionRequest) {
    do {
      let queuePair = try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: queue, receiveCompletionQueue: queue,
          sendCapacity: 8, receiveCapacity: 8))
      let receives = (0..<4).map {
        ReceiveRequest(
          id: UInt64($0), elements: ScatterGatherList(open.element(offset: $0 * 64, byteCount: 64)))
      }
      try queuePair.postReceive(receives.span)
      try request.accept(queuePair, privateData: [], events: events)
      self.queuePair = queuePair
    } catch {
      fatalError("\(error)")
    }
  }

  /// A send and a read, which the peer may answer or not.
  private func talk(_ queuePair: any QueuePair) {
    let part = open.element(offset: 1024, byteCount: 100)
    try? queuePair.postSend(
      [
        SendRequest(id: 1, opcode: .send, elements: ScatterGatherList(part)),
        SendRequest(
          id: 2, opcode: .read, elements: ScatterGatherList(part), remoteAddress: 0,
          remoteKey: RemoteKey(rawValue: 1)),
      ].span)
  }

  /// The peer ends its direction, and waits until the adapter has ended the other.
  private func finish(_ peer: FuzzedTCPPeer) {
    peer.end()
    let limit = MonotonicTime.now + .seconds(5)
    while !peer.hasEnded {
      turn()
      peer.receive()
      require(MonotonicTime.now < limit, "a connection outlives its peer")
    }
    queuePair?.destroy()
    queuePair = nil
    turn()
  }

  private func check(_ peer: FuzzedTCPPeer) {
    for index in 0..<Self.regionByteCount {
      let bytes = unsafe (readable.bytes[index], closed.bytes[index])
      require(bytes == (0x55, secret[index & 7]), "byte \(index) was changed")
    }
    require(!peer.received.contains(secret), "a secret got out")
  }
}

/// A socket that speaks iWARP by hand, if at all.
private final class FuzzedTCPPeer {
  private let socket: StreamSocket
  private var writer = FPDUWriter(markers: false, checksums: false)
  /// What is to be sent when there is room.
  private var unsent: [UInt8] = []
  private(set) var received: [UInt8] = []
  private(set) var hasEnded = false
  private var nextSend: UInt32 = 1
  private var nextRead: UInt32 = 1

  init(_ target: InternetAddress) {
    do { socket = try StreamSocket.connect(to: target) } catch { fatalError("\(error)") }
  }

  // An orderly end would leave the port in use for a minute.
  deinit { socket.reset() }

  /// Goes through an honest start-up, while `turn` lets the adapter work.
  func start(_ options: StartUp.Options, turn: () -> Void) {
    var startUp = StartUp(
      initiator: options, privateData: [], deadline: .now + .seconds(5))
    while true {
      turn()
      while let effect = startUp.nextEffect() {
        switch effect {
        case .send(let bytes): send(bytes)
        case .established(let agreement, _):
          writer = FPDUWriter(
            markers: agreement.sendsMarkers, checksums: agreement.usesChecksums)
          return
        case .requested, .rejected, .failed: fatalError("an honest request came to \(effect)")
        }
      }
      receive()
      guard !received.isEmpty else {
        startUp.timePassed(.now)
        continue
      }
      received.removeFirst(withExactView(received) { startUp.receive($0, at: .now) })
    }
  }

  /// Sends a segment; its numbers are right but for `skew`.
  func send(
    _ opcode: MessageOpcode, isLast: Bool, key: RemoteKey, place: UInt64, _ payload: [UInt8],
    skew: UInt32
  ) {
    var header = SegmentHeader(opcode, isLast: isLast, place: .tagged(key: key, offset: place))
    if let queue = opcode.queue {
      var sequence: UInt32 = 1
      switch queue {
      case .sends:
        sequence = nextSend
        if isLast { nextSend += 1 }
      case .readRequests:
        sequence = nextRead
        nextRead += 1
      case .terminate: break
      }
      header.place = .untagged(
        queue: queue.rawValue, sequence: sequence &+ skew, offset: skew >> 4, invalidates: key)
    }
    var bytes: [UInt8] = []
    withExactView(written(header.byteCount, header.write) + payload) {
      writer.append($0, to: &bytes)
    }
    send(bytes)
  }

  func send(_ bytes: [UInt8]) {
    unsent += bytes
    flush()
  }

  /// What there is no room for waits until the adapter has read.
  private func flush() {
    guard !unsent.isEmpty, case .bytes(let count) = socket.send(unsent) else { return }
    unsent.removeFirst(count)
  }

  private var isEnding = false

  func end() {
    isEnding = true
    if unsent.isEmpty { socket.endInOrder() }
  }

  func receive() {
    if !unsent.isEmpty {
      flush()
      if unsent.isEmpty, isEnding { socket.endInOrder() }
    }
    switch socket.receive(into: &received, limit: 1 << 16) {
    case .bytes, .wouldBlock: break
    case .end, .failed: hasEnded = true
    }
  }
}
