import FabricBounded
import FabricHostDriver
import FabricI2O
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire

extension I2OVolumeQueue {
  /// Bytes of a message that moves blocks.
  private static let transferByteCount =
    I2O.Function.blockRead.fixedByteCount + RequestFrame.listByteCount

  /// The context of a request's message: its slot, and the slot's generation.
  func context(_ index: Int) -> UInt32 {
    UInt32(slots[index].generation) << 16 | UInt32(truncatingIfNeeded: index)
  }

  /// Hands a request to the channel. False when it must wait.
  func post(_ index: Int) -> Bool {
    guard let channel, let info, sentCount < sentLimit else { return false }
    let request = slots[index].request
    let function: I2O.Function
    switch request.operation {
    case .read: function = .blockRead
    case .write: function = .blockWrite
    case .flush: function = .cacheFlush
    case .compare, .writeUncorrectable, .writeZeroes, .deallocate:
      doom(index)
      return true
    }
    var piece = ScatterElement(.attached, byteCount: request.data.byteCount)
    if request.operation == .read {
      guard let key = key(for: index, over: channel) else { return false }
      piece = ScatterElement(at: request.data.address, byteCount: request.data.byteCount, key: key)
    }
    let byteCount = function == .cacheFlush ? function.fixedByteCount : Self.transferByteCount
    let refusal = unsafe withUnsafeTemporaryAllocation(byteCount: byteCount, alignment: 8) {
      bytes -> SendRefusal? in
      let frame = unsafe WireBuffer(bytes)
      encode(function, index, piece, info.blockByteCount, into: frame)
      return function == .blockWrite
        ? channel.transfer(kind: I2O.messageKind, tag: 0, payload: frame.view, data: request.data)
        : channel.send(kind: I2O.messageKind, tag: 0, payload: frame.view)
    }
    guard let refusal else {
      slots[index].isSent = true
      sentCount &+= 1
      return true
    }
    guard refusal == .tooLong else { return false }
    doom(index)
    return true
  }

  /// Longer than the unit takes, or nothing that it has a message for.
  private func doom(_ index: Int) {
    doomed.push(index)
    timer?.hasEnds = true
  }

  /// (IT-40)
  private func encode(
    _ function: I2O.Function, _ index: Int, _ piece: ScatterElement, _ blockByteCount: UInt32,
    into frame: WireBuffer
  ) {
    frame.clear()
    FrameHeader(
      function, target: device, wordCount: frame.byteCount / 4, listOffset: function.listOffset,
      transactionContext: context(index)
    ).encode(into: frame)
    guard function != .cacheFlush else { return }
    let request = slots[index].request
    if function == .blockWrite, request.flags.contains(.forceUnitAccess) {
      frame.set(I2O.WriteFlags.writeThrough, at: 16)
    }
    frame.set(request.data.byteCount, at: 20)
    frame.set(request.block &* UInt64(blockByteCount), at: 24)
    RequestFrame.list(
      piece, into: frame.slice(function.fixedByteCount, RequestFrame.listByteCount),
      isOut: function == .blockWrite)
  }

  /// What the unit is to write a read's data with; nil while all keys are in use.
  private func key(for index: Int, over channel: Channel) -> RemoteKey? {
    guard lendsKeys else { return slots[index].request.remoteKey }
    takeBackLoan(index)
    guard let key = try? channel.lend(slots[index].request.data) else { return nil }
    slots[index].loan = key
    return key
  }

  private func takeBackLoan(_ index: Int) {
    let key = slots[index].loan
    guard key.rawValue != 0 else { return }
    slots[index].loan = RemoteKey(rawValue: 0)
    endpoint.protectionDomain.revoke(key)
  }

  /// Hands over what waits, until something is short again.
  func postUnsent() {
    while let index = unsent.first {
      guard post(index) else { return }
      _ = unsent.pop()
    }
  }

  // MARK: Replies

  func received(_ messages: Span<IncomingMessage>, over channel: Channel) {
    for index in messages.indices {
      guard self.channel === channel else { return }
      let message = messages[index]
      guard !message.isPushCompletion, message.kind == I2O.messageKind, message.buffer == nil,
        let (header, reply) = ReplyFrame.decode(message.payload), replied(header, reply)
      else {
        report()
        return lost(because: "the unit sent a message that the protocol does not know")
      }
    }
    report()
    postUnsent()
  }

  /// False when it breaks the protocol.
  private func replied(_ header: FrameHeader, _ reply: ReplyFrame) -> Bool {
    if header.function == I2O.Function.abort.rawValue { return abortReplied(header, reply) }
    let index = Int(header.transactionContext & 0xFFFF)
    guard index < slots.count, header.target == device else { return false }
    // Each message has one reply.
    guard slots[index].isSent, context(index) == header.transactionContext else { return false }
    let operation = slots[index].request.operation
    let wanted: I2O.Function =
      operation == .read ? .blockRead : operation == .write ? .blockWrite : .cacheFlush
    guard header.function == wanted.rawValue else { return false }
    let (status, transferred) = reply.status(of: operation)
    let byteCount = slots[index].request.data.byteCount
    // A read that says success without its data would hand on what was there before.
    if status == .success, operation.movesData, transferred != byteCount { return false }
    end(index, status, min(transferred, byteCount))
    return true
  }

  /// (IT-61)
  private func abortReplied(_ header: FrameHeader, _ reply: ReplyFrame) -> Bool {
    guard let aborted = abortedSlot, header.transactionContext == UInt32.max else { return false }
    switch reply {
    case .aborted, .fault, .failure: break
    default: return false
    }
    abortedSlot = nil
    // It may have been too late: then the request's own reply is still to come.
    _ = aborted
    return true
  }

  /// Puts a request's end into the batch.
  func end(_ index: Int, _ status: BlockStatus, _ transferredByteCount: UInt32) {
    if status == .aborted, slots[index].isAborted {
      abortReason = .unanswered(address: address, after: options.timeout ?? .zero)
    }
    takeBackLoan(index)
    if slots[index].isSent { sentCount &-= 1 }
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
      reported.withSpan(prefix: count) { handler.i2oVolume(self, completed: $0) }
    }
  }

  /// Ends what there is no message for.
  func endDoomed() {
    while let index = doomed.pop() {
      let isTransfer = slots[index].request.operation.movesData
      end(index, isTransfer ? .invalidField : .unsupported, 0)
    }
    report()
  }

  /// Ends every request with `aborted`.
  func endAll() {
    unsent.removeAll()
    doomed.removeAll()
    for index in 0..<slots.count where slots[index].isTaken { end(index, .aborted, 0) }
    report()
  }

  // MARK: Aborts

  /// Looks for a request that has waited too long: first it is aborted, and when that is of no use
  /// either the queue is given up. (IT-60)
  func lookForLate(at now: MonotonicTime, limit: UInt64) {
    for index in 0..<slots.count where slots[index].isTaken && slots[index].isSent {
      let since = MonotonicTime(nanoseconds: slots[index].submitted)
      guard now.nanoseconds(since: since) >= limit else { continue }
      if slots[index].isAborted {
        fail(.unanswered(address: address, after: options.timeout ?? .zero))
        return
      }
      if abortedSlot == nil { sendAbort(of: index, at: now) }
    }
  }

  private func sendAbort(of index: Int, at now: MonotonicTime) {
    guard let channel else { return }
    let operation = slots[index].request.operation
    let function: I2O.Function =
      operation == .read ? .blockRead : operation == .write ? .blockWrite : .cacheFlush
    let frame = RequestFrame.abort(
      .exact, of: device, function: function.rawValue, transaction: context(index),
      context: .max)
    guard frame.send(over: channel) == nil else { return }
    channel.flush()
    abortedSlot = index
    abortCount += 1
    slots[index].isAborted = true
    slots[index].submitted = now.nanoseconds
    // Others that are late are so for the same reason: each failure is one line.
    guard abortCount == 1 else { return }
    options.log(
      "\(address): a request has no answer after \(options.timeout ?? .zero); it is being aborted")
  }
}
