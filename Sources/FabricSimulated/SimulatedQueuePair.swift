import FabricVerbs

/// One end of a simulated connection.
final class SimulatedQueuePair: QueuePair, @unchecked Sendable {
  let adapter: SimulatedAdapter
  let domain: SimulatedProtectionDomain
  let number: UInt32
  let sendCompletionQueue: SimulatedCompletionQueue
  let receiveCompletionQueue: SimulatedCompletionQueue
  let sharedReceiveQueue: SimulatedSharedReceiveQueue?
  let sendCapacity: Int
  let receiveCapacity: Int
  var state = QueuePairState.initialized
  var peer: SimulatedQueuePair?

  /// A send request on its way.
  struct Pending {
    var request: SendRequest
    var inlineBytes: [UInt8]?
    /// Where it ended; nil until it was carried out at the peer.
    var status: WorkCompletionStatus?
    /// What a read fetched.
    var fetched: [UInt8] = []
  }

  /// In the order posted; the first `carriedOutCount` were carried out and are not acknowledged.
  var sends: [Pending] = []
  var carriedOutCount = 0
  var fetchesInFlight = 0
  var isTransferScheduled = false
  var lastAcknowledgement: Duration = .zero
  /// Distinguishes what was scheduled before the end of the connection.
  var epoch = 0
  var receives: [ReceiveRequest] = []
  private var channel: SimulatedEventChannel?
  private var isEstablished = false

  init(
    adapter: SimulatedAdapter, domain: SimulatedProtectionDomain,
    sendCompletionQueue: SimulatedCompletionQueue,
    receiveCompletionQueue: SimulatedCompletionQueue,
    sharedReceiveQueue: SimulatedSharedReceiveQueue?, sendCapacity: Int, receiveCapacity: Int
  ) {
    self.adapter = adapter
    self.domain = domain
    self.sendCompletionQueue = sendCompletionQueue
    self.receiveCompletionQueue = receiveCompletionQueue
    self.sharedReceiveQueue = sharedReceiveQueue
    self.sendCapacity = sendCapacity
    self.receiveCapacity = receiveCapacity
    number = adapter.network.makeNumber()
  }

  var network: SimulatedNetwork { adapter.network }

  // MARK: Posts

  func postSend(_ requests: Span<SendRequest>) throws(PostError) {
    for index in requests.indices {
      let request = requests[index]
      if let reason = reasonToRefuse(request) {
        throw PostError(acceptedCount: index, reason: reason)
      }
      sendCompletionQueue.reserve()
      if state == .error {
        complete(request, .flushed)
        continue
      }
      var pending = Pending(request: request)
      if request.flags.contains(.inline) {
        pending.inlineBytes = SimulatedBytes.gather(request.elements)
      }
      sends.append(pending)
      scheduleTransfer()
    }
  }

  private func reasonToRefuse(_ request: SendRequest) -> PostError.Reason? {
    let capabilities = adapter.capabilities
    if state == .initialized || state == .readyToReceive { return .notConnected }
    switch request.opcode {
    case .writeWithImmediate where !capabilities.hasImmediateWrite: return .unsupported
    case .read where !capabilities.hasRemoteRead: return .unsupported
    case .read where request.flags.contains(.inline): return .unsupported
    default: break
    }
    if request.flags.contains(.inline) {
      if request.elements.byteCount > capabilities.maximumInlineByteCount { return .tooLong }
    } else {
      if request.elements.byteCount > capabilities.maximumMessageByteCount { return .tooLong }
      if !domain.covers(request.elements, isWritten: request.opcode == .read) {
        return .invalidElement
      }
    }
    if sends.count >= sendCapacity { return .queueFull }
    return sendCompletionQueue.isFull ? .completionQueueFull : nil
  }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    precondition(sharedReceiveQueue == nil, "the queue pair uses a shared receive queue")
    defer { network.resumeStalled() }
    for index in requests.indices {
      let request = requests[index]
      guard domain.covers(request.elements, isWritten: true) else {
        throw PostError(acceptedCount: index, reason: .invalidElement)
      }
      guard receives.count < receiveCapacity else {
        throw PostError(acceptedCount: index, reason: .queueFull)
      }
      guard !receiveCompletionQueue.isFull else {
        throw PostError(acceptedCount: index, reason: .completionQueueFull)
      }
      receiveCompletionQueue.reserve()
      if state == .error {
        flush(request)
      } else {
        receives.append(request)
      }
    }
  }

  // MARK: Ends of requests

  /// The end of a send request, which has a place in the completion queue.
  func complete(_ request: SendRequest, _ status: WorkCompletionStatus) {
    if status == .success && !request.flags.contains(.signaled) {
      sendCompletionQueue.release()
      network.resumeStalled()
      return
    }
    sendCompletionQueue.push(
      WorkCompletion(
        id: request.id, queuePairNumber: number, byteCount: UInt32(request.elements.byteCount),
        status: status, opcode: request.opcode.completionOpcode))
  }

  private func flush(_ request: ReceiveRequest) {
    receiveCompletionQueue.push(
      WorkCompletion(id: request.id, queuePairNumber: number, status: .flushed, opcode: .receive))
  }

  // MARK: Beginning and end of the connection

  func startConnecting(on channel: SimulatedEventChannel) {
    self.channel = channel
    state = .readyToReceive
  }

  func established(privateData: [UInt8]) {
    guard state == .readyToReceive else { return }
    state = .readyToSend
    isEstablished = true
    channel?.push(.established(self, privateData: privateData))
  }

  func connectFailed(_ error: ConnectError) {
    guard state == .readyToReceive else { return }
    let channel = self.channel
    self.channel = nil
    end(.local, isOutcomeKnown: true)
    channel?.push(.failed(self, error))
  }

  /// Goes to the error state: what is under way ends, and the user is told.
  ///
  /// - Parameter isOutcomeKnown: whether the results of what was carried out at the peer can still
  ///   be learnt.
  func end(_ reason: DisconnectReason, isOutcomeKnown: Bool) {
    guard state != .error else { return }
    state = .error
    epoch += 1
    peer = nil
    let unfinished = sends
    let carriedOut = carriedOutCount
    sends = []
    carriedOutCount = 0
    fetchesInFlight = 0
    for (index, pending) in unfinished.enumerated() {
      if index < carriedOut, let status = pending.status {
        finish(pending, isOutcomeKnown ? status : .transportError)
      } else {
        complete(pending.request, .flushed)
      }
    }
    let unused = receives
    receives = []
    for request in unused { flush(request) }
    guard let channel else { return }
    if isEstablished {
      channel.push(.disconnected(self, reason))
    } else {
      channel.push(.failed(self, .unreachable("the connection ended before it was established")))
    }
  }

  /// Ends this side now and the other side when it learns of it.
  func endBoth(_ own: DisconnectReason, peer others: DisconnectReason) {
    let other = peer
    end(own, isOutcomeKnown: true)
    tell(other, others, isOutcomeKnown: true, after: network.randomDelay())
  }

  private func tell(
    _ other: SimulatedQueuePair?, _ reason: DisconnectReason, isOutcomeKnown: Bool,
    after delay: Duration
  ) {
    guard let other else { return }
    network.schedule(after: delay) {
      if other.peer === self { other.end(reason, isOutcomeKnown: isOutcomeKnown) }
    }
  }

  func breakConnection() {
    let other = peer
    end(.failure("the connection was lost"), isOutcomeKnown: false)
    other?.end(.failure("the connection was lost"), isOutcomeKnown: false)
  }

  func disconnect() { endBoth(.local, peer: .peer) }

  /// Its process is gone: nobody polls what is left here.
  func die() {
    let other = peer
    forget()
    tell(other, .peerDied, isOutcomeKnown: false, after: network.options.deathDetection)
  }

  func destroy() {
    let other = peer
    forget()
    adapter.queuePairs[number] = nil
    tell(other, .peer, isOutcomeKnown: true, after: network.randomDelay())
  }

  private func forget() {
    state = .error
    epoch += 1
    peer = nil
    channel = nil
    sendCompletionQueue.release(sends.count)
    receiveCompletionQueue.release(receives.count)
    sends = []
    receives = []
    carriedOutCount = 0
    sendCompletionQueue.drop(number)
    receiveCompletionQueue.drop(number)
    network.resumeStalled()
  }
}
