import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// Carrying out what the peer asks, as the target. (SM-12, SM-20, SM-21)
extension SharedMemoryQueuePair {
  /// What one record came to.
  private enum Outcome {
    /// Carried out; its lines are over. With a completion for this side or without.
    case done(lines: Int, WorkCompletion?)
    /// Not now: no receive is posted, or a read before it is still being fetched.
    case later
    /// Refused: the status goes to the peer, the completion (if a receive was taken) stays here.
    case refused(WorkCompletionStatus, WorkCompletion?)
  }

  /// Carries out the peer's records in order; returns the count of completions at the new end.
  func receive(into completions: inout MutableSpan<WorkCompletion>, from start: Int) -> Int {
    let state = self.state
    guard state != .initialized else { return start }
    var count = start
    let isFailed = state == .error
    if !isFailed || drainsPeer.load(ordering: .relaxed) {
      let before = consumedLines
      loop: while count < completions.count {
        // Pairs with the release in `publish`: the record behind its word.
        let word = unsafe SharedWord32(at: peer.line(consumedLines)).loadAcquiring()
        // Two lines that the peer has just written come over at the same time.
        _ = unsafe SharedWord32(at: peer.line(consumedLines &+ 1)).load()
        guard word != 0 else { break }
        // Behind its newest record an honest peer keeps an empty line: a ring without an end
        // would keep this thread for ever.
        let isEndless = consumedLines &- before >= UInt64(lineCountOfPeer)
        switch isEndless ? .refused(.remoteInvalidRequest, nil) : carryOut(word) {
        case .done(let lines, let completion):
          consumedLines &+= UInt64(lines)
          if let completion {
            completions[count] = completion
            count &+= 1
          }
        case .later:
          break loop
        case .refused(let status, let completion):
          own.failure.storeReleasing(UInt32(status.rawValue))
          if let completion {
            completions[count] = completion
            count &+= 1
          }
          drainsPeer.store(false, ordering: .relaxed)
          fail(.failure("a request of the peer was refused: \(status)"))
          ringForSends()
          break loop
        }
      }
      if consumedLines != before {
        // Pairs with the acquire in `retireSends`.
        own.consumed.storeReleasing(consumedLines)
        ringForSends()
      }
    }
    if self.state == .error { count = flushReceives(into: &completions, from: count) }
    if count != start && !usesSharedReceiveQueue {
      receiveCompletionQueue.admission.withdraw(count &- start)
    }
    return count
  }

  private func flushReceives(
    into completions: inout MutableSpan<WorkCompletion>, from start: Int
  ) -> Int {
    guard !usesSharedReceiveQueue else { return start }
    var count = start
    while count < completions.count, let request = receiveQueue.take() {
      completions[count] = WorkCompletion(
        id: request.id, queuePairNumber: number, status: .flushed, opcode: .receive)
      count &+= 1
    }
    return count
  }

  @inline(__always)
  private func ringForSends() {
    let armed = peer.armedForSends.load()
    if armed & 1 != 0 && armed != lastRungForSends {
      lastRungForSends = armed
      connection.ring()
    }
  }

  @inline(__always)
  private func carryOut(_ word: UInt32) -> Outcome {
    let count = Int(word >> 16)
    let left = lineCountOfPeer &- (Int(truncatingIfNeeded: consumedLines) & peer.lineMask)
    if word & 0xff == Record.padding {
      guard count > 0, count <= left, count < Record.maximumLineCount else {
        return .refused(.remoteInvalidRequest, nil)
      }
      return .done(lines: count, nil)
    }
    guard let opcode = Record.opcode(word) else { return .refused(.remoteInvalidRequest, nil) }
    if opcode != .read && readsPassed != 0 && peer.readsDone.loadAcquiring() < readsPassed {
      return .later
    }
    let isInline = word & Record.inlineFlag != 0
    let offset = Record.inlineOffset(opcode)
    let lines = isInline ? Record.lineCount(inlineOffset: offset, byteCount: count) : 1
    guard lines <= left, lines <= Record.maximumLineCount else {
      return .refused(.remoteInvalidRequest, nil)
    }
    let line = unsafe peer.line(consumedLines)
    switch opcode {
    case .send, .sendWithImmediate:
      return unsafe takeSend(
        line, opcode, lines: lines, inlineByteCount: isInline ? count : nil)
    case .write, .writeWithImmediate:
      let isPlaced = word & Record.placedFlag != 0
      guard !isPlaced || isDirect && !isInline else { return .refused(.remoteInvalidRequest, nil) }
      return unsafe takeWrite(
        line, opcode, lines: lines, inlineByteCount: isInline ? count : nil, isPlaced: isPlaced)
    case .read:
      return unsafe allowRead(RecordFields(copying: line), isInline: isInline)
    }
  }

  private func noteReceiverNotReady() {
    guard !isWaitingForReceive else { return }
    isWaitingForReceive = true
    receiverNotReadyCount.add(1, ordering: .relaxed)
  }

  @inline(__always)
  private func takeSend(
    _ line: UnsafeMutableRawPointer, _ opcode: SendOpcode, lines: Int, inlineByteCount: Int?
  ) -> Outcome {
    guard let receive = takeReceive() else {
      noteReceiverNotReady()
      return .later
    }
    isWaitingForReceive = false
    var completion = WorkCompletion(
      id: receive.id, queuePairNumber: number, opcode: .receive,
      hasImmediate: opcode == .sendWithImmediate)
    unsafe completion.immediate = line.load(fromByteOffset: 4, as: UInt32.self)
    guard domain.covers(receive.elements.first, writing: true),
      domain.covers(receive.elements.second, writing: true)
    else {
      completion.status = .localProtectionError
      return .refused(.remoteOperationError, completion)
    }
    if let inlineByteCount {
      guard inlineByteCount <= receive.elements.byteCount else {
        completion.status = .lengthError
        return .refused(.lengthError, completion)
      }
      completion.byteCount = UInt32(truncatingIfNeeded: inlineByteCount)
      unsafe scatter(
        line + Record.sendInlineOffset, inlineByteCount, to: receive.elements, from: 0)
      return .done(lines: lines, completion)
    }
    let fields = unsafe RecordFields(copying: line)
    let total = Int(fields.firstByteCount) &+ Int(fields.secondByteCount)
    guard total <= receive.elements.byteCount else {
      completion.status = .lengthError
      return .refused(.lengthError, completion)
    }
    let isPlaced = remoteWork.withLock { memory in
      place(fields, to: receive.elements, memory: &memory)
    }
    guard isPlaced else {
      completion.status = .flushed
      return .refused(.remoteInvalidRequest, completion)
    }
    completion.byteCount = UInt32(truncatingIfNeeded: total)
    return .done(lines: lines, completion)
  }

  private func takeWrite(
    _ line: UnsafeMutableRawPointer, _ opcode: SendOpcode, lines: Int, inlineByteCount: Int?,
    isPlaced: Bool
  ) -> Outcome {
    var fields = unsafe RecordFields(copying: line)
    let total = inlineByteCount ?? (Int(fields.firstByteCount) &+ Int(fields.secondByteCount))
    guard total <= Record.maximumByteCount else { return .refused(.remoteInvalidRequest, nil) }
    fields.byteCount = UInt32(truncatingIfNeeded: total)
    var completion: WorkCompletion?
    if opcode == .writeWithImmediate {
      guard receiveQueue.hasReceive else {
        noteReceiverNotReady()
        return .later
      }
      isWaitingForReceive = false
    }
    // Whoever revokes a key waits for this lock, so the check and the copy are one. (SM-31)
    let status: WorkCompletionStatus = remoteWork.withLock { memory in
      if inlineByteCount == nil { prefetchNext(consumedLines &+ UInt64(lines), memory) }
      guard allows(fields, .remoteWrite) else { return .remoteAccessError }
      if isPlaced { return .success }
      let target = ScatterGatherList(
        ScatterGatherElement(
          address: fields.remoteAddress, byteCount: fields.byteCount,
          localKey: LocalKey(rawValue: 0)))
      if inlineByteCount != nil {
        unsafe scatter(line + Record.writeInlineOffset, total, to: target, from: 0)
        return .success
      }
      return place(fields, to: target, memory: &memory) ? .success : .remoteInvalidRequest
    }
    guard status == .success else { return .refused(status, nil) }
    if opcode == .writeWithImmediate, let receive = takeReceive() {
      completion = WorkCompletion(
        id: receive.id, queuePairNumber: number, byteCount: fields.byteCount,
        immediate: unsafe line.load(fromByteOffset: 4, as: UInt32.self),
        opcode: .receiveWriteImmediate, hasImmediate: true)
    }
    return .done(lines: lines, completion)
  }

  /// Brings near what the record behind this one is to copy, while this one's is copied.
  @inline(__always)
  private func prefetchNext(_ position: UInt64, _ memory: PeerMemory) {
    let word = unsafe SharedWord32(at: peer.line(position)).loadAcquiring()
    guard word != 0, word & (Record.inlineFlag | Record.placedFlag) == 0,
      word & 0xff == Record.kind(.writeWithImmediate) || word & 0xff == Record.kind(.write)
    else { return }
    let fields = unsafe RecordFields(copying: peer.line(position))
    if let source = memory.translate(fields.firstAddress, fields.firstByteCount) {
      prefetch(source, byteCount: min(Int(fields.firstByteCount), Record.prefetchedByteCount))
    }
  }

  /// Checks a read; the initiator fetches the bytes itself, and what follows waits until it has.
  /// (SM-32)
  private func allowRead(_ fields: RecordFields, isInline: Bool) -> Outcome {
    guard !isInline else { return .refused(.remoteInvalidRequest, nil) }
    guard allows(fields, .remoteRead) else { return .refused(.remoteAccessError, nil) }
    readsPassed &+= 1
    return .done(lines: 1, nil)
  }

  /// The checks of a key, in order: it exists, belongs to this connection, gives the right, and
  /// covers the bytes without wrap. (SM-30)
  private func allows(_ fields: RecordFields, _ right: AccessRights) -> Bool {
    if fields.byteCount == 0 { return true }
    guard let record = remoteKeys.record(for: fields.remoteKey) else { return false }
    return (record.queuePairNumber == 0 || record.queuePairNumber == number)
      && record.access.contains(right)
      && record.covers(fields.remoteAddress, UInt64(fields.byteCount))
  }

  /// Copies a record's elements out of the peer's memory; false when the peer did not share them.
  private func place(
    _ fields: RecordFields, to target: ScatterGatherList, memory: inout PeerMemory
  ) -> Bool {
    var first = memory.translate(fields.firstAddress, fields.firstByteCount)
    var second = memory.translate(fields.secondAddress, fields.secondByteCount)
    if first == nil && fields.firstByteCount > 0 || second == nil && fields.secondByteCount > 0 {
      // The announcement may still lie in the socket.
      connection.takeAnnouncements(&memory)
      first = memory.translate(fields.firstAddress, fields.firstByteCount)
      second = memory.translate(fields.secondAddress, fields.secondByteCount)
    }
    if fields.firstByteCount > 0 {
      guard let first else { return false }
      unsafe scatter(
        UnsafeMutableRawPointer(bitPattern: UInt(first))!, Int(fields.firstByteCount), to: target,
        from: 0)
    }
    if fields.secondByteCount > 0 {
      guard let second else { return false }
      unsafe scatter(
        UnsafeMutableRawPointer(bitPattern: UInt(second))!, Int(fields.secondByteCount),
        to: target, from: Int(fields.firstByteCount))
    }
    return true
  }

  /// Copies bytes into a list's elements, beginning `offset` bytes into the list.
  @inline(__always)
  private func scatter(
    _ source: UnsafeMutableRawPointer, _ byteCount: Int, to target: ScatterGatherList,
    from offset: Int
  ) {
    guard byteCount > 0 else { return }
    let firstCount = Int(target.first.byteCount)
    let intoFirst = max(0, min(byteCount, firstCount &- offset))
    if intoFirst > 0 {
      unsafe copyShort(
        to: UnsafeMutableRawPointer(bitPattern: UInt(target.first.address) &+ UInt(offset))!,
        from: source, byteCount: intoFirst)
    }
    if byteCount > intoFirst {
      let skipped = max(0, offset &- firstCount)
      unsafe copyShort(
        to: UnsafeMutableRawPointer(bitPattern: UInt(target.second.address) &+ UInt(skipped))!,
        from: source + intoFirst, byteCount: byteCount &- intoFirst)
    }
  }

  @inline(__always)
  private func takeReceive() -> ReceiveRequest? {
    usesSharedReceiveQueue
      ? receiveQueue.takers.withLock { _ in receiveQueue.take() } : receiveQueue.take()
  }
}
