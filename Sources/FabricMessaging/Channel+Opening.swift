import FabricPlatform
import FabricVerbs
import FabricWire

/// What an acceptor answers to a peer that wants to open a channel.
public enum AcceptDecision {
  /// Opens it: `greeting` goes to the peer, `handler` hears of the channel from now on.
  case accept(greeting: [UInt8], handler: any ChannelHandler)
  /// Refuses, with a reason for the peer's user.
  case reject(reason: String)
}

/// The opening: `open` from the initiator, `opened` or `refused` in answer. (MS-3, MS-4)
extension Channel {
  static let openingTimeout: Duration = .seconds(5)

  var peerMessageByteCount: Int { maximumPayloadByteCount + MessageHeader.byteCount }

  private func ownOpening(greeting: [UInt8]) -> Opening {
    Opening(
      receiveCount: UInt32(options.receiveCount),
      messageByteCount: UInt32(options.messageByteCount),
      bufferCount: UInt32(memory.buffers == nil ? 0 : options.bufferCount),
      bufferAddress: memory.buffers?.address ?? 0,
      bufferKey: memory.bufferKey,
      bufferByteCount: UInt32(options.bufferByteCount),
      takesImmediate: hasImmediateWrite && options.indication == .automatic,
      heartbeatMilliseconds: UInt32(clamping: options.heartbeat.nanoseconds / 1_000_000),
      greeting: greeting)
  }

  /// The fabric has connected.
  func connected() {
    guard phase == .connecting else { return }
    phase = .opening
    deadline = .now + Self.openingTimeout
    timer?.reschedule(self)
    guard case .initiator? = role else { return takeEarly() }
    if let key = options.key {
      sendHello(key)
    } else {
      sendOpening(.open, greeting: options.greeting)
    }
  }

  func sendOpening(_ type: MessageType, greeting: [UInt8]) {
    let opening = ownOpening(greeting: greeting)
    let step: KeyExchange.Step = type == .open ? .open : .opened
    sendProven(type, exchange == nil ? nil : step) { opening.write(to: $0) }
  }

  func takeOpening(_ header: MessageHeader, _ view: WireView) {
    switch (header.type, role) {
    case (.refused, .initiator?):
      let bytes = view.slice(MessageHeader.byteCount, view.byteCount - MessageHeader.byteCount)
      let words = String(decoding: bytes.array, as: UTF8.self)
      openFailure =
        header.kind == Self.keyRefusalKind
        ? .unproven("the peer refused: \(words)") : .refused(words)
      finish(.peer)
    case (.refused, .acceptor?) where exchange != nil:
      finish(.failure("the key was not proven: compare the keys of both sides"))
    case (.hello, .acceptor?): takeHello(view)
    case (.challenge, .initiator?): takeChallenge(view)
    case (.opened, .initiator(let completed)?):
      guard let answer = provenAnswer(view), adopt(answer) else { return }
      role = nil
      completed(.success(self))
    case (.open, .acceptor(let decide, let opened, _)?):
      if let opening = provenOpening(view) { answer(opening, decide, opened) }
    default:
      violation("an opening out of place")
    }
  }

  private func answer(
    _ view: WireView, _ decide: ([UInt8], ChannelPeer) -> AcceptDecision,
    _ opened: (Channel) -> Void
  ) {
    let opening: Opening
    do {
      opening = try Opening(view)
    } catch {
      return refuse(error.words)
    }
    do {
      try memory.makeBuffers(options, for: queuePair)
    } catch {
      return refuse(error.description)
    }
    switch decide(opening.greeting, peer) {
    case .reject(let reason): refuse(reason)
    case .accept(let greeting, let handler):
      precondition(greeting.count <= Opening.maximumGreetingByteCount, "the greeting is too long")
      setHandler(handler)
      sendOpening(.opened, greeting: greeting)
      guard adopt(view) else { return }
      role = nil
      opened(self)
      flush()
    }
  }

  /// - Parameter kind: why, in a number. (MS-17)
  func refuse(_ reason: String, kind: UInt16 = 0) {
    queueControl(.refused, kind: kind) { buffer in
      let bytes = Array(reason.utf8.prefix(buffer.byteCount - MessageHeader.byteCount))
      buffer.copy(bytes, at: MessageHeader.byteCount)
      return MessageHeader.byteCount + bytes.count
    }
    flush()
    // The peer hangs up when it has read why; if not, the time-out does it.
    phase = .closing
    clearHandler()
    deadline = .now + .seconds(1)
    timer?.reschedule(self)
  }

  /// Takes over the peer's limits.
  private func adopt(_ view: WireView) -> Bool {
    let opening: Opening
    do {
      opening = try Opening(view)
    } catch {
      openFailure = .protocolMismatch(error.words)
      finish(.failure(error.words))
      return false
    }
    credit.open(window: opening.receiveCount)
    peerBuffers = PeerBuffers(
      count: Int(opening.bufferCount), address: opening.bufferAddress,
      byteCount: Int(opening.bufferByteCount))
    peerBufferKey = opening.bufferKey
    bufferLimit = opening.bufferCount > 0 ? Int(opening.bufferByteCount) : 0
    payloadLimit =
      min(Int(opening.messageByteCount), options.messageByteCount) - MessageHeader.byteCount
    usesImmediate =
      opening.takesImmediate && hasImmediateWrite && options.indication == .automatic
    peerGreeting = opening.greeting
    interval = opening.interval(own: options.heartbeat)
    phase = .open
    deadline = nextBeat(after: .now)
    timer?.reschedule(self)
    return true
  }

  /// The channel's time has come: a beat is due, or an answer overdue.
  func tick(at now: MonotonicTime) {
    guard let due = deadline, due <= now else { return }
    switch phase {
    case .connecting: deadline = nil
    case .opening:
      openFailure = .timedOut
      finish(.failure("the peer did not open the channel in time"))
    case .closing: finish(.local)
    case .closed: deadline = nil
    case .open:
      beat()
      deadline = phase == .open ? nextBeat(after: now) : nil
    }
  }

  /// An interval later, on a grid of eighths of it: many channels' beats share a wake-up. The first one comes up to an
  /// eighth early, the others an interval after the one before.
  private func nextBeat(after now: MonotonicTime) -> MonotonicTime {
    let step = max(1, interval.nanoseconds / 8)
    let time = now + interval
    return MonotonicTime(nanoseconds: time.nanoseconds / step &* step)
  }

  /// An interval has passed. (MS-11)
  private func beat() {
    silentBeatCount = hasHeardSinceBeat ? 0 : silentBeatCount + 1
    hasHeardSinceBeat = false
    if silentBeatCount >= 5 {
      return finish(.peerDied("nothing was heard from the peer for 5 heartbeats"))
    }
    if !hasSentSinceBeat {
      queueControl(.credit)
      flush()
    }
    hasSentSinceBeat = false
  }
}
