import FabricBounded
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// Composing FPDUs and handing them to the socket. All of it under `transmitting`.
extension TCPQueuePair {
  /// After a post of requests from number `first` on: composes them, and sends unless something
  /// went out since the last poll.
  func startTransmitting(from first: UInt64) {
    if output.isBlocked.load(ordering: .relaxed) || !output.mayTransmit {
      hasOutput.store(output.mayTransmit, ordering: .relaxed)
    } else if output.hasSentSincePoll.load(ordering: .relaxed) {
      compose()
      hasOutput.store(true, ordering: .relaxed)
      if !train.hasRoom { transmit() }
    } else {
      transmit()
      output.hasSentSincePoll.store(true, ordering: .relaxed)
    }
    keepInlineBytes(from: first)
  }

  /// Inline bytes that did not go into the train are the user's again after the post.
  private func keepInlineBytes(from first: UInt64) {
    var index = max(first, output.composedCount)
    let end = postedCount.load(ordering: .relaxed)
    while index < end {
      let slot = Int(truncatingIfNeeded: index) & entryMask
      if unsafe entries[slot].request.flags.contains(.inline) {
        unsafe output.keep(&entries[slot], slot: slot)
      }
      index &+= 1
    }
  }

  /// At a poll: whatever waits goes out.
  func transmitAgain() {
    transmitting.lock()
    output.hasSentSincePoll.store(false, ordering: .relaxed)
    transmit()
    transmitting.unlock()
  }

  /// From outside the lock.
  func transmitNow() { transmitting.withLock { transmit() } }

  /// Composes and sends until nothing is left or the socket is full.
  func transmit() {
    guard let socket = output.socket, !output.isBroken else {
      return hasOutput.store(false, ordering: .relaxed)
    }
    while true {
      compose()
      guard !train.isEmpty else {
        // What a fence or the read depth holds back goes on with an answer, which raises.
        return hasOutput.store(false, ordering: .relaxed)
      }
      switch train.send(over: socket) {
      case .bytes:
        output.isBlocked.store(false, ordering: .relaxed)
        // Pairs with the acquire in `retireSends`.
        sentCount.store(output.composedCount, ordering: .releasing)
      case .wouldBlock:
        output.isBlocked.store(true, ordering: .relaxed)
        return hasOutput.store(true, ordering: .relaxed)
      case .end, .failed(.brokenPipe):
        return breakOutput()
      case .failed:
        // The system tells this once only, and has told it here.
        output.hasDied.store(true, ordering: .relaxed)
        return breakOutput()
      }
    }
  }

  /// The peer may have said why: what it sent is read before the end is told.
  private func breakOutput() {
    output.isBroken = true
    train.reset()
    hasOutput.store(false, ordering: .relaxed)
    expectInput()
  }

  // MARK: Composing

  /// Fills the train.
  private func compose() {
    guard output.socket != nil else { return }
    while train.hasRoom {
      if let opening = output.opening {
        output.opening = nil
        composeOpening(opening)
        continue
      }
      let isBetweenMessages = output.composedOffset == 0 && !output.isAtImmediate
      if isBetweenMessages && output.hasAnswers {
        composeAnswer()
        continue
      }
      if isBetweenMessages && output.hasTerminate {
        composeTerminate()
        continue
      }
      guard output.mayTransmit, state == .readyToSend,
        output.composedCount < postedCount.load(ordering: .relaxed)
      else { return }
      let slot = Int(truncatingIfNeeded: output.composedCount) & entryMask
      guard unsafe compose(entries[slot].request) else { return }
    }
  }

  /// A request's next segment; false when it must wait for answers to earlier reads.
  private func compose(_ request: SendRequest) -> Bool {
    if request.flags.contains(.fence) || request.opcode == .read {
      let underWay =
        readsIssued.load(ordering: .relaxed) &- readsAnswered.load(ordering: .acquiring)
      if request.flags.contains(.fence) && underWay > 0 { return false }
      if request.opcode == .read && underWay >= output.outboundReadDepth { return false }
    }
    switch request.opcode {
    case .read:
      composeReadRequest(request)
      output.composedCount &+= 1
      return true
    case .writeWithImmediate where output.isAtImmediate:
      composeImmediate(request.immediate)
      output.isAtImmediate = false
      output.composedCount &+= 1
      return true
    default: break
    }
    let total = request.elements.byteCount
    let offset = output.composedOffset
    let (first, second) = request.elements.pieces(offset, atMost: output.segmentByteCount)
    let end = offset &+ first.byteCount &+ second.byteCount
    let isLast = end == total
    if request.opcode == .send {
      let header = SegmentHeader(
        .send, isLast: isLast,
        place: .untagged(
          queue: UntaggedQueue.sends.rawValue, sequence: output.nextSend,
          offset: UInt32(truncatingIfNeeded: offset), invalidates: RemoteKey(rawValue: 0)))
      train.append(headerByteCount: SegmentHeader.untaggedByteCount, first, second) {
        header.write(to: $0)
      }
      if isLast { output.nextSend &+= 1 }
    } else {
      let header = SegmentHeader(
        .write, isLast: isLast,
        place: .tagged(
          key: request.remoteKey, offset: request.remoteAddress &+ UInt64(offset)))
      train.append(headerByteCount: SegmentHeader.taggedByteCount, first, second) {
        header.write(to: $0)
      }
    }
    output.composedOffset = isLast ? 0 : end
    if isLast {
      if request.opcode == .writeWithImmediate {
        output.isAtImmediate = true
      } else {
        output.composedCount &+= 1
      }
    }
    return true
  }

  /// RFC 7306 section 5: 8 bytes, ours in the last four.
  private func composeImmediate(_ value: UInt32) {
    let header = SegmentHeader(
      .immediate, isLast: true,
      place: .untagged(
        queue: UntaggedQueue.sends.rawValue, sequence: output.nextSend, offset: 0,
        invalidates: RemoteKey(rawValue: 0)))
    output.nextSend &+= 1
    train.append(headerByteCount: SegmentHeader.untaggedByteCount + 8) { buffer in
      header.write(to: buffer)
      buffer.set(
        UInt64(value).byteSwapped, at: SegmentHeader.untaggedByteCount)
    }
  }

  private func composeReadRequest(_ request: SendRequest) {
    let byteCount = request.elements.byteCount
    // The sink is named by what this side alone knows; the response is checked against it.
    let key = RemoteKey(rawValue: request.elements.first.localKey.rawValue)
    let sink = request.elements.first.address
    output.newReads.append(
      Inbound.Read(elements: request.elements, key: key, offset: sink))
    readsIssued.store(readsIssued.load(ordering: .relaxed) &+ 1, ordering: .releasing)
    let header = SegmentHeader(
      .readRequest, isLast: true,
      place: .untagged(
        queue: UntaggedQueue.readRequests.rawValue, sequence: output.nextReadRequest, offset: 0,
        invalidates: RemoteKey(rawValue: 0)))
    output.nextReadRequest &+= 1
    let body = ReadRequestHeader(
      sinkKey: key, sinkOffset: sink, byteCount: UInt32(truncatingIfNeeded: byteCount),
      sourceKey: request.remoteKey, sourceOffset: request.remoteAddress)
    let front = SegmentHeader.untaggedByteCount
    train.append(headerByteCount: front + ReadRequestHeader.byteCount) { buffer in
      header.write(to: buffer)
      body.write(to: buffer.slice(front, ReadRequestHeader.byteCount))
    }
  }

  // Apart from `compose`, which would check the access to the arrays for every request.
  @inline(never)
  private func composeAnswer() {
    let answer = output.answers[0]
    let request = answer.request
    let total = Int(request.readByteCount)
    let done = answer.doneByteCount
    let count = min(output.segmentByteCount, total - done)
    let header = SegmentHeader(
      .readResponse, isLast: done + count == total,
      place: .tagged(key: request.sinkKey, offset: request.sinkOffset &+ UInt64(done)))
    train.append(
      headerByteCount: SegmentHeader.taggedByteCount,
      Piece(address: request.sourceOffset &+ UInt64(done), byteCount: count)
    ) { header.write(to: $0) }
    if header.isLast {
      output.answers.removeFirst()
      output.hasAnswers = !output.answers.isEmpty
      answersSent(1)
    } else {
      output.answers[0].doneByteCount = done + count
    }
  }

  private func answersSent(_ count: UInt64) {
    output.answersSent.store(
      output.answersSent.load(ordering: .relaxed) &+ count, ordering: .releasing)
  }

  /// The connection's last message. (RFC 5040 section 4.8)
  @inline(never)
  private func composeTerminate() {
    guard let message = output.terminate else { return }
    output.terminate = nil
    let header = SegmentHeader(
      .terminate, isLast: true,
      place: .untagged(
        queue: UntaggedQueue.terminate.rawValue, sequence: 1, offset: 0,
        invalidates: RemoteKey(rawValue: 0)))
    let front = SegmentHeader.untaggedByteCount
    train.append(headerByteCount: front + message.count) { buffer in
      header.write(to: buffer)
      buffer.copy(message, at: front)
    }
  }

  /// The frame that opens a peer-to-peer connection: empty reads are not offered. (RFC 6581
  /// section 9)
  private func composeOpening(_ kind: StartFrame.ReadyToReceive) {
    if kind == .emptyFPDU { return train.appendEmpty() }
    let header = SegmentHeader(
      .write, isLast: true, place: .tagged(key: RemoteKey(rawValue: 0), offset: 0))
    train.append(headerByteCount: header.byteCount) { header.write(to: $0) }
  }
}
