import CFabricLinux
import FabricBounded
import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// Reading the socket and taking the stream apart. All of it on the polling thread of the receive
/// completion queue; what places bytes, under `receiving`.
extension TCPQueuePair {
  /// From so many bytes on, payload that has not come yet is read straight to its place.
  private static let directByteCount = 4096
  /// So often a queue pair reads in its turn, however much comes.
  private static let readLimit = 4

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    precondition(!usesSharedReceiveQueue, "post to the shared receive queue instead")
    let admitted = receiveCompletionQueue.admission.admit(requests.count)
    defer { if state != .initialized { receiveMember.raise() } }
    do {
      try receiveQueue.post(requests, admitted: admitted)
    } catch {
      receiveCompletionQueue.admission.withdraw(admitted &- error.acceptedCount)
      throw error
    }
  }

  /// Whether `receive` would do anything.
  var hasInboundWork: Bool {
    switch state {
    case .readyToSend:
      return mayHaveInput.load(ordering: .sequentiallyConsistent)
        || input.owner == number || inbound.isStalled
    case .error: return !usesSharedReceiveQueue && receiveQueue.hasReceive || inbound.current != nil
    default: return false
    }
  }

  /// Carries out what the peer sent; returns the count of completions at the new end.
  func receive(into completions: inout MutableSpan<WorkCompletion>, from start: Int) -> Int {
    var count = start
    // Mostly nothing has come, which is found out without the lock: it is about what is placed.
    if state == .readyToSend && (mustPlace || readMore()) {
      receiving.lock()
      takeInput(into: &completions, &count)
      receiving.unlock()
    }
    if state == .error { flushReceives(into: &completions, &count) }
    if count != start && !usesSharedReceiveQueue {
      receiveCompletionQueue.admission.withdraw(count &- start)
    }
    return count
  }

  /// Whether what comes next needs the lock: something has been read already, or will be read
  /// straight to its place.
  @inline(__always)
  private var mustPlace: Bool {
    input.owner != 0 || inbound.keptCount > 0 || receiver.directByteCount > 0
  }

  private func flushReceives(
    into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int
  ) {
    if input.owner == number { input.release() }
    if let taken = inbound.current, count < completions.count {
      inbound.current = nil
      complete(taken, .flushed, into: &completions, &count)
    }
    guard !usesSharedReceiveQueue else { return }
    while count < completions.count, let request = receiveQueue.take() {
      complete(request, .flushed, into: &completions, &count)
    }
  }

  private func complete(
    _ request: ReceiveRequest, _ status: WorkCompletionStatus,
    into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int
  ) {
    completions[count] = WorkCompletion(
      id: request.id, queuePairNumber: number, status: status, opcode: .receive)
    count &+= 1
  }

  // MARK: Input

  private func takeInput(
    into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int
  ) {
    guard input.owner == 0 || input.owner == number else { return }
    hearOfAnswers()
    if input.owner == number { hearOfReads() }
    // Who goes on with what was read lets the others read before it reads again.
    var readsLeft = input.owner == 0 ? Self.readLimit : 0
    loop: while count < completions.count {
      if input.owner != number {
        guard readsLeft > 0, inbound.keptCount > 0 || mayHaveInput.load(ordering: .relaxed),
          readMore()
        else { break }
        readsLeft &-= 1
        hearOfReads()
        continue
      }
      guard input.byteCount > 0 else {
        input.release()
        continue
      }
      let event: StreamEvent
      do throws(StreamViolation) {
        event = try receiver.next(input.view, canReceive: canReceive)
      } catch {
        violate(error.cause)
        break
      }
      switch event.kind {
      case .needsMore:
        inbound.keep(input.view, until: event.neededByteCount)
        input.release()
        continue
      case .needsReceive:
        if usesSharedReceiveQueue, let taken = takeReceive() {
          inbound.current = taken
          continue
        }
        inbound.keep(input.view, until: 0)
        input.release()
        inbound.isStalled = true
        break loop
      default: break
      }
      guard carryOut(event, into: &completions, &count) else { break }
      input.consume(event.consumedByteCount)
      if inbound.awaitsFirstFrame {
        inbound.awaitsFirstFrame = false
        transmitting.withLock { output.mayTransmit = true }
        transmitNow()
      }
    }
    if input.owner == number && input.byteCount == 0 { input.release() }
    // Answers and last words.
    if hasOutput.load(ordering: .relaxed) { transmitNow() }
  }

  /// Whether a message that begins now has a receive. A shared one is taken when it is known that
  /// it is needed.
  private var canReceive: Bool {
    inbound.current != nil || !usesSharedReceiveQueue && receiveQueue.hasReceive
  }

  private func takeReceive() -> ReceiveRequest? {
    if let current = inbound.current {
      inbound.current = nil
      return current
    }
    return usesSharedReceiveQueue
      ? receiveQueue.takers.withLock { _ in receiveQueue.take() } : receiveQueue.take()
  }

  /// The peer may ask for as many RDMA reads more as were answered.
  private func hearOfAnswers() {
    let sent = output.answersSent.load(ordering: .acquiring)
    while inbound.answersHeardOf != sent {
      receiver.readWasAnswered()
      inbound.answersHeardOf &+= 1
    }
  }

  /// Learns of reads whose responses may be in what was just read.
  private func hearOfReads() {
    let known = readsAnswered.load(ordering: .relaxed) &+ inbound.readCount
    guard readsIssued.load(ordering: .acquiring) != known else { return }
    transmitting.withLock {
      while let read = output.newReads.popFirst() {
        receiver.expectReadResponse(
          key: read.key, offset: read.offset, byteCount: read.elements.byteCount)
        inbound.reads.append(read)
        inbound.readCount &+= 1
      }
    }
  }

  /// Brings bytes into the input buffer, or to their place; false when there are none.
  private func readMore() -> Bool {
    if inbound.keptCount > 0 && inbound.neededCount <= inbound.keptCount {
      if inbound.isStalled {
        guard canReceive || usesSharedReceiveQueue && receiveQueue.hasReceive else {
          // Behind what waits nothing is read, so this is how the end is seen.
          if let socket = inbound.socket, socket.peerHasEnded {
            fail(socket.connectError == nil ? endInOrder : .peerDied)
          }
          return false
        }
        inbound.isStalled = false
      }
      unsafe input.restore(
        UnsafeRawBufferPointer(rebasing: inbound.kept[..<inbound.keptCount]), for: number)
      inbound.forgetKept()
      return true
    }
    guard mayHaveInput.load(ordering: .relaxed), let socket = inbound.socket else { return false }
    var pieces = unsafe (iovec(), iovec())
    var front = 0
    let isKept = inbound.keptCount > 0 || inbound.neededCount > 0
    if !isKept && receiver.directByteCount >= Self.directByteCount {
      guard let place = directPlace() else {
        violate(TerminateCause.DDP.invalidKey)
        return false
      }
      front = place.byteCount
      unsafe pieces.0.iov_base = UnsafeMutableRawPointer(bitPattern: UInt(place.address))
    } else if isKept {
      front = inbound.neededCount - inbound.keptCount
      unsafe pieces.0.iov_base = inbound.kept.baseAddress! + inbound.keptCount
    }
    unsafe pieces.0.iov_len = front
    unsafe pieces.1 = iovec(iov_base: input.body, iov_len: InputBuffer.bodyByteCount)
    let result = unsafe withUnsafeMutablePointer(to: &pieces) { pair in
      unsafe pair.withMemoryRebound(to: iovec.self, capacity: 2) { both in
        unsafe socket.receive(front > 0 ? both : both + 1, count: front > 0 ? 2 : 1)
      }
    }
    switch result {
    case .bytes(let count):
      // Less than there was room for: that was all, but for an end that came with the bytes and was
      // told with them. What comes later is told anew.
      if count < front + InputBuffer.bodyByteCount
        && (receiveCompletionQueue.isDirect || !mayHaveEnded.load(ordering: .relaxed))
      {
        mayHaveInput.store(false, ordering: .relaxed)
      }
      take(count, front: front, isKept: isKept)
      return true
    case .wouldBlock: mayHaveInput.store(false, ordering: .relaxed)
    case .end: fail(endInOrder)
    case .failed: fail(.peerDied)
    }
    return false
  }

  /// What the end of the stream means.
  private var endInOrder: DisconnectReason {
    output.hasDied.load(ordering: .relaxed) ? .peerDied : .peer
  }

  /// `count` bytes were read: the first `front` of them behind what is kept, or to their place.
  private func take(
    _ count: Int, front: Int, isKept: Bool,
  ) {
    let inFront = min(count, front)
    if isKept {
      inbound.keptMore(inFront)
      guard inbound.keptCount >= inbound.neededCount else { return }
      unsafe input.fill(
        count - inFront,
        behind: UnsafeRawBufferPointer(rebasing: inbound.kept[..<inbound.keptCount]), for: number)
      inbound.forgetKept()
    } else {
      if inFront > 0 { receiver.tookDirectly(inFront) }
      guard count > inFront else { return }
      unsafe input.fill(
        count - inFront, behind: UnsafeRawBufferPointer(start: nil, count: 0), for: number)
    }
  }

  // MARK: What the peer asks

  /// Carries out one event; false when the connection has ended with it.
  private func carryOut(
    _ event: StreamEvent,
    into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int
  ) -> Bool {
    switch event.kind {
    case .needsMore, .needsReceive, .empty: break
    case .write:
      if let cause = placeWrite(event) { return violate(cause) }
    case .send:
      if event.isFirst && event.isLast && event.opcode == .send {
        return takeWholeSend(event, into: &completions, &count)
      }
      if event.isFirst {
        inbound.current = takeReceive()
        guard let receive = inbound.current else {
          return violate(TerminateCause.DDP.noReceive)
        }
        guard covers(receive.elements) else {
          inbound.current = nil
          complete(receive, .localProtectionError, into: &completions, &count)
          return violate(TerminateCause.RDMAP.localCatastrophe)
        }
      }
      return takeSend(event, into: &completions, &count)
    case .immediate:
      guard let receive = takeReceive() else { return violate(TerminateCause.DDP.noReceive) }
      completions[count] = WorkCompletion(
        id: receive.id, queuePairNumber: number,
        byteCount: UInt32(truncatingIfNeeded: event.writeByteCount ?? 0),
        immediate: UInt32(truncatingIfNeeded: event.immediate),
        opcode: event.writeByteCount == nil ? .receive : .receiveWriteImmediate,
        hasImmediate: true)
      count &+= 1
    case .readRequest:
      if let cause = takeReadRequest(event) { return violate(cause) }
    case .readResponse:
      if let cause = placeReadResponse(event) { return violate(cause) }
    case .terminate:
      heard(event.terminate)
      return false
    }
    return true
  }

  /// A message of one segment, all of which has come.
  private func takeWholeSend(
    _ event: StreamEvent, into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int
  ) -> Bool {
    guard let receive = takeReceive() else { return violate(TerminateCause.DDP.noReceive) }
    let byteCount = event.payload.byteCount
    guard covers(receive.elements) else {
      complete(receive, .localProtectionError, into: &completions, &count)
      return violate(TerminateCause.RDMAP.localCatastrophe)
    }
    guard byteCount <= receive.elements.byteCount else {
      complete(receive, .lengthError, into: &completions, &count)
      return violate(TerminateCause.DDP.messageTooLong)
    }
    scatter(event.payload, to: receive.elements, from: 0)
    completions[count] = WorkCompletion(
      id: receive.id, queuePairNumber: number, byteCount: UInt32(truncatingIfNeeded: byteCount),
      opcode: .receive)
    count &+= 1
    return true
  }

  private func takeSend(
    _ event: StreamEvent, into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int
  ) -> Bool {
    guard let receive = inbound.current else { return violate(TerminateCause.DDP.noReceive) }
    let end = Int(event.messageOffset) + event.segmentByteCount
    guard end <= receive.elements.byteCount else {
      inbound.current = nil
      complete(receive, .lengthError, into: &completions, &count)
      return violate(TerminateCause.DDP.messageTooLong)
    }
    scatter(event.payload, to: receive.elements, from: Int(event.messageOffset))
    guard event.isLast else { return true }
    inbound.current = nil
    if event.opcode == .sendWithInvalidate || event.opcode == .sendWithSolicitedEventAndInvalidate {
      guard invalidate(event.key) else {
        complete(receive, .flushed, into: &completions, &count)
        return violate(TerminateCause.RDMAP.keyNotToBeInvalidated)
      }
    }
    completions[count] = WorkCompletion(
      id: receive.id, queuePairNumber: number,
      byteCount: UInt32(
        truncatingIfNeeded: Int(event.messageOffset) + event.payload.byteCount),
      opcode: .receive)
    count &+= 1
    return true
  }

  // MARK: Ends

  /// Tells the peer what it did wrong, and ends the connection.
  @discardableResult
  func violate(_ cause: TerminateCause) -> Bool {
    let message = receiver.terminateMessage(cause)
    transmitting.withLock {
      output.terminate = message.bytes
      output.answers.removeAll()
      output.hasAnswers = false
      transmit()
    }
    fail(.failure("the peer broke the protocol: \(cause)"))
    return false
  }

  /// The peer has ended the connection and says why.
  private func heard(_ message: TerminateMessage?) {
    if let message, message.cause.isProtectionFault {
      readFailure.store(
        WorkCompletionStatus.remoteAccessError.rawValue, ordering: .releasing)
    } else {
      readFailure.store(
        WorkCompletionStatus.remoteOperationError.rawValue, ordering: .releasing)
    }
    fail(
      .failure(
        "the peer ended the connection: \(message.map { "\($0.cause)" } ?? "without a cause")"))
  }
}
