import FabricCompletion
public import FabricVerbs
import FabricWire

/// Taking what was pushed.
extension Channel {
  public func handle(_ completions: Span<WorkCompletion>) {
    guard phase != .closed, !isEarly(completions) else { return }
    isHandling = true
    hasHeardSinceBeat = true
    var repostCount = 0
    var messageCount = 0
    for index in completions.indices {
      let completion = completions[index]
      guard completion.status == .success else {
        failed(completion)
        break
      }
      if completion.isReceive {
        let receive = ReceiveRequest(
          id: completion.id,
          elements: ScatterGatherList(
            memory.receiveElement(Int(truncatingIfNeeded: completion.id))))
        if let message = take(completion) {
          unsafe (scratch.incoming + messageCount).initialize(to: message)
          messageCount &+= 1
          if holdsReceives {
            unsafe heldReceives[heldReceiveCount] = receive
            heldReceiveCount &+= 1
            if messageCount == ChannelScratch.count { deliver(&messageCount) }
            if phase == .closed { break }
            continue
          }
        }
        if phase == .closed { break }
        unsafe scratch.reposts[repostCount] = receive
        repostCount &+= 1
        if messageCount == ChannelScratch.count || repostCount == ChannelScratch.count {
          deliver(&messageCount)
          repost(&repostCount)
        }
      } else {
        ended(upTo: completion.id)
      }
    }
    deliver(&messageCount)
    // Answers first: somebody waits for them.
    flush()
    repost(&repostCount)
    isHandling = false
    releaseHandler()
    guard phase != .closed else { return }
    if wasRefused && credit.hasUserCredit {
      wasRefused = false
      handler?.channelCanSend(self)
      flush()
    }
    tellCreditIfDue()
  }

  /// A peer may send as soon as it is connected, which an RDMA device tells this side after the message now and then:
  /// what comes before is kept until it has.
  private func isEarly(_ completions: Span<WorkCompletion>) -> Bool {
    guard phase == .connecting else { return false }
    for index in completions.indices {
      guard completions[index].status == .success else { return false }
    }
    for index in completions.indices { earlyCompletions.append(completions[index]) }
    return true
  }

  /// The fabric has told that it is connected.
  func takeEarly() {
    guard !earlyCompletions.isEmpty else { return }
    let completions = earlyCompletions
    earlyCompletions = []
    handle(completions.span)
  }

  private func deliver(_ count: inout Int) {
    guard count > 0 else { return }
    if phase == .open, let reference = unsafe handlerReference {
      let incoming = unsafe scratch.incoming
      let messages = unsafe Span(_unsafeStart: incoming, count: count)
      unsafe reference._withUnsafeGuaranteedRef { $0.handler.channel(self, received: messages) }
    }
    count = 0
  }

  private func repost(_ count: inout Int) {
    guard count > 0, phase != .closed else { return }
    defer { count = 0 }
    let reposts = unsafe scratch.reposts
    do {
      try queuePair.postReceive(unsafe Span(_unsafeStart: reposts, count: count))
      repostedCount &+= UInt32(truncatingIfNeeded: count)
    } catch {
      finish(.failure("a receive could not be reposted: \(error)"))
    }
  }

  /// Takes what is under way but gives no more credit for messages: the peer can send until its
  /// credit is used up, and then waits. Beats and the like go on. (MS-13)
  public func holdMessages() { holdsReceives = true }

  /// Ends `holdMessages`: the peer may send again.
  public func resumeMessages() {
    guard holdsReceives else { return }
    holdsReceives = false
    guard heldReceiveCount > 0, phase == .open else { return }
    do {
      try queuePair.postReceive(
        unsafe Span(_unsafeStart: heldReceives, count: heldReceiveCount))
      repostedCount &+= UInt32(truncatingIfNeeded: heldReceiveCount)
      heldReceiveCount = 0
    } catch {
      return finish(.failure("a receive could not be reposted: \(error)"))
    }
    if !isHandling { tellCreditIfDue() }
  }

  /// Posts every receive, once, before the connection is made.
  func postAllReceives() throws(PostError) {
    // Another channel may be handling messages, whose handler makes this one.
    let receives = (0..<receiveCapacity).map {
      ReceiveRequest(id: UInt64($0), elements: ScatterGatherList(memory.receiveElement($0)))
    }
    try queuePair.postReceive(receives.span)
  }

  /// Everything up to one send has ended.
  private func ended(upTo id: UInt64) {
    var count = 0
    while endedCount != id {
      let token = unsafe tokens[oldestSlot]
      if token.isSet {
        unsafe scratch.tokens[count] = token.value
        count &+= 1
        if count == ChannelScratch.count { tellFinished(&count) }
      }
      endedCount &+= 1
      oldestSlot = slot(after: oldestSlot)
    }
    tellFinished(&count)
  }

  private func tellFinished(_ count: inout Int) {
    guard count > 0 else { return }
    let tokens = unsafe scratch.tokens
    handler?.channel(self, finished: unsafe Span(_unsafeStart: tokens, count: count))
    count = 0
  }

  private func failed(_ completion: WorkCompletion) {
    switch completion.status {
    // The connection's own event says why.
    case .flushed, .transportError: queuePair.disconnect()
    case .remoteAccessError:
      finish(.failure("the peer refused a write: its buffer or key is no longer valid"))
    default: finish(.failure("a request failed: \(completion.status)"))
    }
  }

  // MARK: Messages

  /// Reads one message; nil when it is the channel's own business.
  @inline(__always)
  private func take(_ completion: WorkCompletion) -> IncomingMessage? {
    if completion.opcode == .receiveWriteImmediate { return takeImmediate(completion) }
    let byteCount = Int(completion.byteCount)
    let view = memory.received(Int(truncatingIfNeeded: completion.id), byteCount: byteCount)
    guard let header = MessageHeader(view), account(header) else {
      violation("a message with a malformed header (\(byteCount) bytes)")
      return nil
    }
    guard header.type == .user else {
      return takeControl(header, view)
    }
    guard phase == .open else {
      violation("a message before the channel was open")
      return nil
    }
    var buffer: ReceivedBuffer?
    var offset = MessageHeader.byteCount
    if header.bufferCount == 1 {
      guard byteCount >= offset &+ 8 else {
        violation("a message that ends within its buffer's name")
        return nil
      }
      let name = view.uint64(at: offset)
      buffer = hold(UInt16(truncatingIfNeeded: name), byteCount: Int(name >> 32))
      guard buffer != nil else { return nil }
      offset &+= 8
    }
    return IncomingMessage(
      kind: header.kind, tag: header.tag, payload: view.slice(offset, byteCount &- offset),
      buffer: buffer, isPushCompletion: false)
  }

  private func takeImmediate(_ completion: WorkCompletion) -> IncomingMessage? {
    guard phase == .open else {
      violation("a transfer before the channel was open")
      return nil
    }
    switch Immediate(completion.immediate) {
    case .pushed(let tag):
      return IncomingMessage(
        kind: 0, tag: tag, payload: memory.received(0, byteCount: 0), buffer: nil,
        isPushCompletion: true)
    case .buffer(let id, let headerByteCount):
      let dataByteCount = Int(completion.byteCount) - headerByteCount
      guard headerByteCount >= MessageHeader.byteCount,
        headerByteCount <= ChannelMemory.headroomByteCount, dataByteCount >= 0,
        let buffer = hold(id, byteCount: dataByteCount)
      else {
        violation("a transfer whose lengths do not fit its buffer")
        return nil
      }
      let view = memory.headroom(id, byteCount: headerByteCount)
      guard let header = MessageHeader(view), header.type == .user, header.bufferCount == 0,
        account(header)
      else {
        violation("a transfer with a malformed header")
        return nil
      }
      return IncomingMessage(
        kind: header.kind, tag: header.tag,
        payload: view.slice(
          MessageHeader.byteCount, headerByteCount - MessageHeader.byteCount),
        buffer: buffer, isPushCompletion: false)
    }
  }

  /// Notes that a buffer holds the peer's data; a stale or foreign id ends the channel.
  private func hold(_ id: UInt16, byteCount: Int) -> ReceivedBuffer? {
    guard byteCount <= memory.bufferByteCount, let region = memory.buffers, ownBuffers.hold(id)
    else {
      violation("a stale buffer id \(id)")
      return nil
    }
    return ReceivedBuffer(
      id: id, address: memory.dataAddress(id), byteCount: byteCount, localKey: region.localKey)
  }

  /// Takes the credit and the returned buffers that every header carries.
  @inline(__always)
  private func account(_ header: MessageHeader) -> Bool {
    // Before the opening nothing has been granted but the opening itself.
    guard phase == .open || phase == .closing else { return true }
    guard credit.update(header.reposted) else { return false }
    if header.firstReturn != MessageHeader.noBuffer {
      guard peerBuffers.comeBack(header.firstReturn) else { return false }
      if header.secondReturn != MessageHeader.noBuffer {
        return peerBuffers.comeBack(header.secondReturn)
      }
    }
    return true
  }

  private func takeControl(_ header: MessageHeader, _ view: WireView) -> IncomingMessage? {
    switch (header.type, phase) {
    case (.open, .opening), (.opened, .opening), (.refused, .opening), (.hello, .opening),
      (.challenge, .opening):
      takeOpening(header, view)
    case (.pushed, .open):
      return IncomingMessage(
        kind: 0, tag: header.tag, payload: view.slice(MessageHeader.byteCount, 0), buffer: nil,
        isPushCompletion: true)
    case (.credit, .open), (.credit, .closing): break
    case (.bufferReturn, .open), (.bufferReturn, .closing): takeReturns(view)
    case (.close, .open), (.close, .closing):
      // What came before it is delivered first.
      service.execute { [self] in finish(phase == .closing ? .local : .peer) }
    default: violation("a \(header.type) message out of place")
    }
    return nil
  }

  private func takeReturns(_ view: WireView) {
    let first = MessageHeader.byteCount + 8
    guard view.byteCount >= first else { return violation("a short list of buffers") }
    let count = view.uint64(at: MessageHeader.byteCount)
    guard count <= UInt64(view.byteCount - first) / 2 else {
      return violation("a list of buffers longer than its message")
    }
    for index in 0..<Int(count) {
      guard peerBuffers.comeBack(view.uint16(at: first + 2 * index)) else {
        return violation("the return of a buffer that it does not have")
      }
    }
  }

  /// The peer broke the protocol; that is data, and the end of this channel only. (MS-12)
  func violation(_ words: String) {
    let mismatch = "expected the messaging protocol, the peer sent \(words)"
    openFailure = openFailure ?? .protocolMismatch(mismatch)
    finish(.failure("the peer sent \(words)"))
  }
}
