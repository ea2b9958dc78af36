public import FabricVerbs
public import FabricWire

/// Pushing.
extension Channel {
  /// Sends a small message into one of the peer's receives.
  ///
  /// - Returns: nil when taken; else why not, and nothing was sent.
  @discardableResult
  public func send(kind: UInt16, tag: UInt32, payload: WireView) -> SendRefusal? {
    guard phase == .open else { return .closed }
    guard payload.byteCount <= payloadLimit else { return .tooLong }
    guard hasRoom(1) else { return refuse(.noCredit) }
    let byteCount = MessageHeader.byteCount &+ payload.byteCount
    if let (buffer, element) = inlineMessages.take(byteCount: byteCount) {
      header(.user, kind: kind, tag: tag).write(to: buffer)
      buffer.copy(payload, at: MessageHeader.byteCount)
      queueMessage(element, flags: .inline)
      return nil
    }
    let slot = nextSlot
    let buffer = memory.outgoing(slot)
    header(.user, kind: kind, tag: tag).write(to: buffer)
    buffer.copy(payload, at: MessageHeader.byteCount)
    queueMessage(memory.outgoingElement(slot, byteCount: byteCount))
    return nil
  }

  /// Sends a small message out of an array; for what is not on a hot path.
  public func send(kind: UInt16, tag: UInt32, bytes: [UInt8]) -> SendRefusal? {
    // An empty array may have no address; a view needs one.
    var copy = bytes
    copy.append(0)
    return unsafe copy.withUnsafeBytes {
      send(
        kind: kind, tag: tag,
        payload: unsafe WireView($0.baseAddress!, byteCount: bytes.count))
    }
  }

  /// Writes `data` into one of the peer's advertised buffers and names it in a message.
  ///
  /// - Parameters:
  ///   - data: registered memory of at most `peerBufferByteCount` bytes; unchanged until `token`
  ///     is finished or the peer has answered.
  ///   - token: comes back in `finished` once the data may be used again.
  @discardableResult
  public func transfer(
    kind: UInt16, tag: UInt32, payload: WireView, data: ScatterGatherElement,
    token: UInt64? = nil
  ) -> SendRefusal? {
    guard phase == .open else { return .closed }
    guard payload.byteCount <= payloadLimit - 8,
      payload.byteCount <= ChannelMemory.headroomByteCount - MessageHeader.byteCount,
      Int(data.byteCount) <= bufferLimit
    else { return .tooLong }
    guard hasRoom(2) else { return refuse(.noCredit) }
    guard let id = peerBuffers.take() else { return refuse(.noBuffer) }
    if usesImmediate {
      transferImmediate(id, kind: kind, tag: tag, payload: payload, data: data, token: token)
    } else {
      transferSeparate(id, kind: kind, tag: tag, payload: payload, data: data, token: token)
    }
    return nil
  }

  /// One request: header, payload and data side by side, the immediate names the buffer. (MS-7)
  private func transferImmediate(
    _ id: UInt16, kind: UInt16, tag: UInt32, payload: WireView, data: ScatterGatherElement,
    token: UInt64?
  ) {
    let slot = nextSlot
    let buffer = memory.outgoing(slot)
    header(.user, kind: kind, tag: tag).write(to: buffer)
    buffer.copy(payload, at: MessageHeader.byteCount)
    let front = MessageHeader.byteCount &+ payload.byteCount
    let request = SendRequest(
      id: 0, opcode: .writeWithImmediate,
      elements: ScatterGatherList(memory.outgoingElement(slot, byteCount: front), data),
      flags: [], immediate: Immediate.buffer(id: id, headerByteCount: front).value,
      remoteAddress: peerBuffers.dataAddress(id) &- UInt64(front), remoteKey: peerBufferKey)
    queue(request, token: token, costsCredit: true)
  }

  /// Two requests in one train: the data, then the message that names the buffer. (MS-8)
  private func transferSeparate(
    _ id: UInt16, kind: UInt16, tag: UInt32, payload: WireView, data: ScatterGatherElement,
    token: UInt64?
  ) {
    queue(
      SendRequest(
        id: 0, opcode: .write, elements: ScatterGatherList(data), flags: [],
        remoteAddress: peerBuffers.dataAddress(id), remoteKey: peerBufferKey),
      token: nil, costsCredit: false)
    let slot = nextSlot
    let buffer = memory.outgoing(slot)
    var header = header(.user, kind: kind, tag: tag)
    header.bufferCount = 1
    header.write(to: buffer)
    buffer.set(UInt64(id) | UInt64(data.byteCount) << 32, at: MessageHeader.byteCount)
    buffer.copy(payload, at: MessageHeader.byteCount &+ 8)
    queueMessage(
      memory.outgoingElement(
        slot, byteCount: MessageHeader.byteCount &+ 8 &+ payload.byteCount),
      token: token)
  }

  /// Writes `data` to a range that the peer asked for and tells it the tag. (MS-9)
  ///
  /// - Parameter tag: at most 2³¹ - 1.
  @discardableResult
  public func push(
    _ data: ScatterGatherElement, to address: UInt64, key: RemoteKey, completing tag: UInt32,
    token: UInt64? = nil
  ) -> SendRefusal? {
    precondition(tag <= Immediate.maximumTag, "a push's tag has 31 bits")
    guard phase == .open else { return .closed }
    guard hasRoom(2) else { return refuse(.noCredit) }
    if usesImmediate {
      queue(
        SendRequest(
          id: 0, opcode: .writeWithImmediate, elements: ScatterGatherList(data), flags: [],
          immediate: Immediate.pushed(tag: tag).value, remoteAddress: address, remoteKey: key),
        token: token, costsCredit: true)
      return nil
    }
    queue(
      SendRequest(
        id: 0, opcode: .write, elements: ScatterGatherList(data), flags: [],
        remoteAddress: address, remoteKey: key),
      token: nil, costsCredit: false)
    let slot = nextSlot
    header(.pushed, kind: 0, tag: tag).write(to: memory.outgoing(slot))
    queueMessage(
      memory.outgoingElement(slot, byteCount: MessageHeader.byteCount), token: token)
    return nil
  }

  /// Writes `data` to a range of the peer without telling it; in place before any later message.
  @discardableResult
  public func write(
    _ data: ScatterGatherElement, to address: UInt64, key: RemoteKey, token: UInt64? = nil
  ) -> SendRefusal? {
    guard phase == .open else { return .closed }
    guard hasRoom(1) else { return refuse(.noCredit) }
    queue(
      SendRequest(
        id: 0, opcode: .write, elements: ScatterGatherList(data), flags: [],
        remoteAddress: address, remoteKey: key),
      token: token, costsCredit: false)
    return nil
  }

  /// Hands everything queued to the fabric as one batch. Called by itself after a handler.
  public func flush() {
    guard pendingCount > 0 else { return }
    do {
      try queuePair.postSend(unsafe Span(_unsafeStart: pending, count: pendingCount))
      pendingCount = 0
      inlineMessages.reset()
    } catch {
      // The ring is full for the moment: what was not taken goes first next time.
      for index in error.acceptedCount..<pendingCount {
        unsafe pending[index - error.acceptedCount] = pending[index]
      }
      pendingCount -= error.acceptedCount
      switch error.reason {
      case .queueFull, .completionQueueFull: break
      default: finish(.failure("a send was refused: \(error)"))
      }
    }
    hasSentSinceBeat = true
  }

  // MARK: Queueing

  @inline(__always)
  func slot(after slot: Int) -> Int { slot &+ 1 == sendCapacity ? 0 : slot &+ 1 }

  private var sendsUnderWay: Int { Int(truncatingIfNeeded: sentCount &- endedCount) }

  @inline(__always)
  private func hasRoom(_ count: Int) -> Bool {
    credit.hasUserCredit && sendsUnderWay &+ count <= sendCapacity
  }

  private func refuse(_ refusal: SendRefusal) -> SendRefusal {
    wasRefused = true
    return refusal
  }

  /// A header that carries the credit and the buffers that are due.
  @inline(__always)
  func header(_ type: MessageType, kind: UInt16, tag: UInt32) -> MessageHeader {
    var header = MessageHeader(type: type, kind: kind, tag: tag)
    header.reposted = repostedCount
    toldCount = repostedCount
    if let first = ownBuffers.takeUntold() {
      header.firstReturn = first
      if let second = ownBuffers.takeUntold() { header.secondReturn = second }
    }
    return header
  }

  @inline(__always)
  private func queueMessage(
    _ element: ScatterGatherElement, flags: SendFlags = [], token: UInt64? = nil
  ) {
    queue(
      SendRequest(
        id: 0, opcode: .send, elements: ScatterGatherList(element), flags: flags),
      token: token, costsCredit: true)
  }

  @inline(__always)
  private func queue(_ request: SendRequest, token: UInt64?, costsCredit: Bool) {
    var request = request
    unsafe tokens[nextSlot] = SendToken(value: token ?? 0, isSet: token != nil)
    sentCount &+= 1
    nextSlot = slot(after: nextSlot)
    request.id = sentCount
    unsignaledCount &+= 1
    if token != nil || unsignaledCount >= signalInterval {
      request.flags.insert(.signaled)
      unsignaledCount = 0
    }
    if costsCredit { credit.consume() }
    unsafe pending[pendingCount] = request
    pendingCount &+= 1
  }

  /// Queues a message of the channel's own, from the reserve if need be; false when there is not
  /// even that.
  @discardableResult
  func queueControl(
    _ type: MessageType, kind: UInt16 = 0, body: (WireBuffer) -> Int = { _ in 16 }
  ) -> Bool {
    guard credit.hasAnyCredit, sendsUnderWay < sendCapacity else { return false }
    let slot = nextSlot
    let buffer = memory.outgoing(slot)
    header(type, kind: kind, tag: 0).write(to: buffer)
    queueMessage(memory.outgoingElement(slot, byteCount: body(buffer)))
    return true
  }

  /// Tells the peer what has come back to it once half of it is untold. (MS-5, MS-6)
  func tellCreditIfDue() {
    guard phase == .open else { return }
    let untoldReceives = Int(repostedCount &- toldCount)
    let untoldBuffers = ownBuffers.untoldCount
    if untoldBuffers > 2 && untoldBuffers >= max(1, ownBuffers.count / 2) {
      returnManyBuffers()
    } else if untoldReceives >= receiveCapacity / 2
      || untoldBuffers > 0 && untoldBuffers >= max(1, ownBuffers.count / 2)
    {
      queueControl(.credit)
    } else {
      return
    }
    flush()
  }

  private func returnManyBuffers() {
    queueControl(.bufferReturn) { buffer in
      var count = 0
      var offset = MessageHeader.byteCount + 8
      while offset + 2 <= peerMessageByteCount, let id = ownBuffers.takeUntold() {
        buffer.set(id, at: offset)
        offset += 2
        count += 1
      }
      buffer.set(UInt64(count), at: MessageHeader.byteCount)
      return offset
    }
  }
}
