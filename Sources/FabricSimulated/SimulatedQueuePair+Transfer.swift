import FabricVerbs

/// Requests on their way to the peer and their answers on the way back.
extension SimulatedQueuePair {
  /// Sends the next train of requests after a while, if there are any.
  func scheduleTransfer() {
    guard !isTransferScheduled, carriedOutCount < sends.count, state == .readyToSend else { return }
    isTransferScheduled = true
    network.schedule(after: network.randomDelay()) { [self] in
      isTransferScheduled = false
      transfer()
    }
  }

  /// A train of requests reaches the peer, which carries them out.
  private func transfer() {
    guard state == .readyToSend, let peer, peer.state != .error else { return }
    if network.losesConnection() { return breakConnection() }
    let longest = 1 + Int(network.random(below: 8))
    var count = 0
    var isStalled = false
    var hasFailed = false
    while carriedOutCount < sends.count && count < longest && !hasFailed {
      // A fence waits for the answers of earlier reads; these schedule the next transfer.
      if sends[carriedOutCount].request.flags.contains(.fence) && fetchesInFlight > 0 {
        isStalled = true
        break
      }
      guard let status = carryOut(&sends[carriedOutCount], at: peer) else {
        isStalled = true
        network.stall(self)
        break
      }
      if sends[carriedOutCount].request.opcode == .read { fetchesInFlight += 1 }
      sends[carriedOutCount].status = status
      carriedOutCount += 1
      count += 1
      hasFailed = status != .success
    }
    if count > 0 { scheduleAcknowledgement(of: count) }
    if !isStalled && !hasFailed { scheduleTransfer() }
  }

  /// The answers come back in the order of the requests.
  private func scheduleAcknowledgement(of count: Int) {
    let time = max(lastAcknowledgement, network.now + network.randomDelay())
    lastAcknowledgement = time
    network.schedule(at: time) { [self, epoch] in
      guard epoch == self.epoch else { return }
      for _ in 0..<count where epoch == self.epoch { acknowledgeFirst() }
      scheduleTransfer()
    }
  }

  private func acknowledgeFirst() {
    let pending = sends.removeFirst()
    carriedOutCount -= 1
    if pending.request.opcode == .read { fetchesInFlight -= 1 }
    let status = finish(pending, pending.status ?? .flushed)
    if status != .success {
      endBoth(
        .failure("a work request ended with \(status)"),
        peer: .failure("the peer's work request ended with \(status)"))
    }
  }

  /// Ends a request that was carried out; a read's bytes are placed now.
  @discardableResult
  func finish(_ pending: Pending, _ status: WorkCompletionStatus) -> WorkCompletionStatus {
    var status = status
    if pending.request.opcode == .read && status == .success {
      if domain.covers(pending.request.elements, isWritten: true) {
        SimulatedBytes.scatter(pending.fetched, to: pending.request.elements)
      } else {
        status = .localProtectionError
      }
    }
    complete(pending.request, status)
    return status
  }

  /// Does at `peer` what the request asks.
  ///
  /// - Returns: how it ended; nil when there is no receive for it yet.
  private func carryOut(
    _ pending: inout Pending, at peer: SimulatedQueuePair
  ) -> WorkCompletionStatus? {
    var request = pending.request
    let byteCount = request.elements.byteCount
    if request.opcode == .read {
      guard peer.answer(.remoteRead, to: request) == .granted else {
        peer.refuse()
        return .remoteAccessError
      }
      pending.fetched = SimulatedBytes.read(request.remoteAddress, byteCount)
      return .success
    }
    let isWrite = request.opcode == .write || request.opcode == .writeWithImmediate
    let takesReceive = request.opcode != .write
    if isWrite {
      switch peer.answer(.remoteWrite, to: request) {
      case .granted: break
      case .overlooked: return .success
      case .refused:
        peer.refuse()
        return .remoteAccessError
      }
    }
    if takesReceive && !peer.isReceiverReady { return nil }
    guard pending.inlineBytes != nil || domain.covers(request.elements, isWritten: false) else {
      return .localProtectionError
    }
    var bytes = pending.inlineBytes ?? SimulatedBytes.gather(request.elements)
    if let alteration = network.alteration {
      var traffic = SimulatedTraffic(
        sender: adapter.name, queuePairNumber: number, opcode: request.opcode, bytes: bytes,
        immediate: request.immediate)
      if alteration(&traffic) == .lost { return .success }
      bytes = traffic.bytes
      request.immediate = traffic.immediate
    }
    if isWrite { SimulatedBytes.write(bytes, 0..<bytes.count, to: request.remoteAddress) }
    return takesReceive ? peer.receive(bytes, of: request, isPlaced: isWrite) : .success
  }

  private func answer(
    _ access: AccessRights, to request: SendRequest
  ) -> SimulatedProtectionDomain.Answer {
    let byteCount = request.elements.byteCount
    // Nothing is touched by no bytes, so there is no key to check.
    guard byteCount > 0 else { return .granted }
    return domain.answer(
      access, address: request.remoteAddress, byteCount: byteCount, key: request.remoteKey,
      number: number)
  }

  private var isReceiverReady: Bool {
    guard let sharedReceiveQueue else { return !receives.isEmpty }
    return !sharedReceiveQueue.receives.isEmpty && !receiveCompletionQueue.isFull
  }

  /// Takes the next receive for a message.
  ///
  /// - Parameter isPlaced: the bytes are in place already; the receive carries the immediate.
  private func receive(
    _ bytes: [UInt8], of request: SendRequest, isPlaced: Bool
  ) -> WorkCompletionStatus {
    let taken: ReceiveRequest
    if let sharedReceiveQueue {
      taken = sharedReceiveQueue.receives.removeFirst()
      receiveCompletionQueue.reserve()
    } else {
      taken = receives.removeFirst()
    }
    var completion = WorkCompletion(
      id: taken.id, queuePairNumber: number, byteCount: UInt32(bytes.count),
      immediate: request.immediate, opcode: isPlaced ? .receiveWriteImmediate : .receive,
      hasImmediate: request.opcode != .send)
    if !isPlaced {
      if bytes.count > taken.elements.byteCount {
        completion.status = .lengthError
      } else if !domain.covers(taken.elements, isWritten: true) {
        completion.status = .localProtectionError
      } else {
        SimulatedBytes.scatter(bytes, to: taken.elements)
      }
    }
    receiveCompletionQueue.push(completion)
    switch completion.status {
    case .success: return .success
    case .lengthError:
      end(.failure("a message was longer than the receive"), isOutcomeKnown: true)
      return .lengthError
    default:
      end(.failure("a receive's memory is not registered any more"), isOutcomeKnown: true)
      return .remoteOperationError
    }
  }

  /// The peer reached for what is not its own.
  private func refuse() {
    end(.failure("the peer lacks the right to what it reached for"), isOutcomeKnown: true)
  }
}
