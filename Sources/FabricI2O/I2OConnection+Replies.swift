import FabricBounded
import FabricFrontEnds
import FabricMessaging
import FabricStorage
import FabricVerbs
import FabricWire

extension I2OConnection {
  /// Ends a message without data for the host.
  func reply(_ slot: Int, _ frame: ReplyFrame) {
    returnReceived(slot)
    slots[slot].endElement = 0
    slots[slot].nextElement = 0
    giveBuffer(slot)
    queue(slot, .reply(frame))
  }

  /// Ends a message with the first bytes of its buffer, which go to the pieces of its list in order.
  /// (IT-43)
  func push(_ slot: Int, byteCount: UInt32, _ ending: Ending) {
    returnReceived(slot)
    var left = byteCount
    var end: Int32 = 0
    let first = slot &* I2O.maximumElementCount
    for index in 0..<Int(slots[slot].elementCount) {
      if left == 0 { break }
      let place = first &+ index
      let count = min(left, elements[place].byteCount)
      elements[place].byteCount = count
      left &-= count
      if elements[place].place == .host { end = Int32(truncatingIfNeeded: index &+ 1) }
    }
    slots[slot].nextElement = 0
    slots[slot].endElement = end
    slots[slot].pushedByteCount = 0
    if end == 0 { giveBuffer(slot) }
    queue(slot, ending)
  }

  private func queue(_ slot: Int, _ ending: Ending) {
    guard state == .open else { return }
    slots[slot].ending = ending
    slots[slot].phase = .replying
    server.touch(self)
    if !replies.isEmpty || !send(slot) { replies.push(slot) }
  }

  /// Sends what a message ends with: data first, so that the reply never overtakes it. False when the
  /// channel has no room now; then it goes on where it was. (IT-43)
  func send(_ slot: Int) -> Bool {
    guard let channel else { return true }
    let first = slot &* I2O.maximumElementCount
    while slots[slot].nextElement < slots[slot].endElement, let buffer = slots[slot].buffer {
      let index = slots[slot].nextElement
      let element = elements[first &+ Int(index)]
      if element.place == .host {
        guard write(element, of: slot, buffer, over: channel) else { return false }
      }
      slots[slot].pushedByteCount &+= UInt64(element.byteCount)
      slots[slot].nextElement = index &+ 1
    }
    if case .reply(let frame) = slots[slot].ending, !send(frame, to: slot, over: channel) {
      return false
    }
    finish(slot)
    return true
  }

  /// Writes one piece. The last one has the buffer with it until the fabric has taken all.
  private func write(
    _ element: ScatterElement, of slot: Int, _ buffer: HeldBuffer, over channel: Channel
  ) -> Bool {
    let data = ScatterGatherElement(
      address: buffer.address &+ slots[slot].pushedByteCount, byteCount: element.byteCount,
      localKey: LocalKey(rawValue: buffer.buffer.key))
    let key = RemoteKey(rawValue: element.handle)
    let isLast = slots[slot].nextElement &+ 1 == slots[slot].endElement
    guard isLast else {
      let refusal = channel.write(data, to: element.address, key: key)
      return refusal == nil || refusal == .closed
    }
    guard let place = freePushes.take() else { return false }
    let refusal: SendRefusal?
    if case .push = slots[slot].ending {
      refusal = channel.push(
        data, to: element.address, key: key, completing: UInt32(slots[slot].header.function),
        token: UInt64(place))
    } else {
      refusal = channel.write(data, to: element.address, key: key, token: UInt64(place))
    }
    guard refusal == nil else {
      freePushes.give(place)
      return refusal == .closed
    }
    pushes[place] = buffer
    slots[slot].buffer = nil
    return true
  }

  private func send(_ reply: ReplyFrame, to slot: Int, over channel: Channel) -> Bool {
    let refusal = unsafe withUnsafeTemporaryAllocation(
      byteCount: ReplyFrame.maximumByteCount, alignment: 8
    ) { bytes in
      let buffer = unsafe WireBuffer(bytes).slice(0, reply.byteCount)
      reply.encode(into: buffer, to: slots[slot].header)
      return channel.send(kind: I2O.messageKind, tag: 0, payload: buffer.view)
    }
    return refusal == nil || refusal == .closed
  }

  /// A message has its reply: its slot is free, and an abort that waits for it may go on.
  private func finish(_ slot: Int) {
    let abort = Int(slots[slot].abortedBy)
    progress &+= 1
    slots[slot].phase = .free
    giveBuffer(slot)
    freeSlots.give(slot)
    guard abort >= 0 else { return }
    slots[abort].waitingCount &-= 1
    if slots[abort].waitingCount == 0 {
      reply(abort, .aborted(count: slots[abort].abortedCount))
    }
  }

  // MARK: Aborts

  /// Aborts what has not begun at the medium, and reads wherever they are: each ends with one reply of
  /// its own, ahead of that of the abort. (IT-60 to IT-62)
  func abort(_ request: AbortRequest, _ slot: Int) {
    let target = slots[slot].header.target
    var hasDeferred = false
    for other in 0..<slots.count
    where other != slot && slots[other].header.target == target
      && slots[other].abortedBy < 0
      && request.fits(
        function: slots[other].header.function,
        transactionContext: slots[other].header.transactionContext)
    {
      var aborted = other
      switch slots[other].phase {
      case .waiting: hasDeferred = true
      case .waitingForChange: break
      case .atStore where slots[other].operation == .read: aborted = abandon(other)
      default: continue
      }
      slots[aborted].isAborted = true
      slots[aborted].abortedBy = Int32(truncatingIfNeeded: slot)
      slots[slot].waitingCount &+= 1
    }
    let count = slots[slot].waitingCount
    guard count > 0 else { return reply(slot, .aborted(count: 0)) }
    slots[slot].abortedCount = count
    slots[slot].phase = .waitingForAborted
    if hasDeferred { forgetAborted() }
    for other in 0..<slots.count
    where slots[other].isAborted && slots[other].abortedBy == Int32(truncatingIfNeeded: slot) {
      switch slots[other].phase {
      case .waiting, .waitingForChange: endAborted(other)
      default: break
      }
    }
  }

  /// Has a read's reply sent while the medium still has it; of too many at once the reply waits.
  ///
  /// - Returns: the slot that is to be answered.
  private func abandon(_ slot: Int) -> Int {
    guard abandonedCount < Self.abandonedLimit, let other = freeSlots.take() else { return slot }
    abandonedCount &+= 1
    slots[other] = Slot()
    slots[other].header = slots[slot].header
    slots[other].logicalByteAddress = slots[slot].logicalByteAddress
    slots[other].phase = .waitingForChange
    slots[slot].phase = .abandoned
    return other
  }

  /// Takes aborted messages out of the line for buffers and ports.
  private func forgetAborted() {
    for _ in 0..<deferred.count {
      guard let slot = deferred.pop() else { return }
      if !slots[slot].isAborted { deferred.push(slot) }
    }
  }

  func endAborted(_ slot: Int) {
    reply(
      slot,
      .error(
        .abortNoDataTransfer, .success, transferCount: 0,
        logicalByteAddress: slots[slot].logicalByteAddress))
  }
}
