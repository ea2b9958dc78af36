import FabricBounded
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire

extension RemoteVolumeQueue {
  /// Hands a request to the channel. False when it must wait.
  func post(_ index: Int) -> Bool {
    guard isReady, sentCount < sentLimit, let channelReference else { return false }
    return channelReference.with { post(index, over: $0) }
  }

  private func post(_ index: Int, over channel: Channel) -> Bool {
    let request = slots[index].request
    let tag = RequestTag(index: UInt16(index), generation: slots[index].generation)
    var command = CommandCapsule(
      Opcode(request.operation), tag: tag, block: request.block, blockCount: request.blockCount,
      byteCount: request.data.byteCount, flags: request.flags)
    if request.operation == .read {
      command.remoteAddress = request.data.address
      guard let key = key(for: index, over: channel) else { return false }
      command.remoteKey = key
    }
    let refusal = unsafe withUnsafeTemporaryAllocation(
      byteCount: CommandCapsule.byteCount, alignment: 8
    ) { bytes -> SendRefusal? in
      let buffer = unsafe WireBuffer(bytes)
      command.encode(into: buffer)
      let kind = MessageKind.command.rawValue
      return command.opcode.carriesData
        ? channel.transfer(
          kind: kind, tag: tag.rawValue, payload: buffer.view, data: request.data)
        : channel.send(kind: kind, tag: tag.rawValue, payload: buffer.view)
    }
    guard let refusal else {
      slots[index].isSent = true
      sentCount &+= 1
      return true
    }
    guard refusal == .tooLong else { return false }
    // Longer than the unit's buffers: what it would answer, too.
    doomed.push(index)
    timer?.hasEnds = true
    return true
  }

  /// What the unit is to write a read's data with; nil while all keys are in use.
  private func key(for index: Int, over channel: Channel) -> RemoteKey? {
    guard lendsKeys else { return slots[index].request.remoteKey }
    takeBackLoan(index)
    guard let key = try? channel.lend(slots[index].request.data) else { return nil }
    slots[index].loan = key
    return key
  }

  /// The unit may not write to a request's data any more.
  func takeBackLoan(_ index: Int) {
    let key = slots[index].loan
    guard key.rawValue != 0 else { return }
    slots[index].loan = RemoteKey(rawValue: 0)
    protectionDomain.revoke(key)
  }

  /// Hands over what waits, until something is short again.
  func postUnsent() {
    while let index = unsent.first {
      guard post(index) else { return }
      _ = unsent.pop()
    }
  }

  // MARK: Ends

  /// A read's data is in place.
  func pushCompleted(tag: RequestTag) -> Bool {
    guard tag.index < slots.count else { return false }
    let slot = slots[tag.index]
    guard slot.isSent, slot.generation == tag.generation else { return true }
    guard slot.request.operation == .read else { return false }
    end(tag.index, .success, slot.request.data.byteCount)
    return true
  }

  /// A response has come. False when it breaks the protocol.
  func responded(_ response: ResponseCapsule) -> Bool {
    guard response.tag.index < slots.count else { return false }
    let slot = slots[response.tag.index]
    guard slot.isSent, slot.generation == response.tag.generation else { return true }
    let count = min(response.transferredByteCount, slot.request.data.byteCount)
    // A read that says success without its data would hand on what was there before.
    if slot.request.operation == .read, response.status.status == .success,
      response.transferredByteCount != slot.request.data.byteCount
    {
      return false
    }
    end(response.tag.index, response.status.status, count)
    return true
  }

  /// Puts a request's end into the batch.
  func end(_ index: Int, _ status: BlockStatus, _ transferredByteCount: UInt32) {
    takeBackLoan(index)
    if slots[index].isSent {
      sentCount &-= 1
      if !isProven && isReady { hasProven() }
    }
    slots[index].isSent = false
    slots[index].isTaken = false
    batch[batchCount] = BlockCompletion(
      tag: slots[index].request.tag, status: status, transferredByteCount: transferredByteCount)
    batchCount &+= 1
    freeSlots.give(index)
  }

  /// Tells the handler what has ended.
  func report() {
    // A handler that ends more, by closing the queue, is told of it when it has returned.
    if isReporting { return }
    isReporting = true
    defer { isReporting = false }
    while batchCount > 0 {
      let count = batchCount
      for place in 0..<count { reported[place] = batch[place] }
      batchCount = 0
      reported.withSpan(prefix: count) { handler.remoteVolume(self, completed: $0) }
    }
  }

  /// Ends what no unit would take.
  func endDoomed() {
    while let index = doomed.pop() { end(index, .invalidField, 0) }
    report()
  }

  /// Ends every request with `aborted`.
  func endAll() {
    unsent.removeAll()
    doomed.removeAll()
    for index in 0..<slots.count where slots[index].isTaken { end(index, .aborted, 0) }
    report()
  }
}
