import CFabricVerbs
import FabricAdapterParts
import FabricPlatform
import FabricVerbs

/// Handing requests to the device: lists of them with one doorbell each.
extension RDMAQueuePair {
  /// Requests that go to the device in one list.
  private static let batchCount = 16
  /// Marks the numbers of receives in what the device hands back: a failed completion does not say
  /// which queue it is of.
  static let receiveMark: UInt64 = 1 << 63

  func postSend(_ requests: Span<SendRequest>) throws(PostError) {
    let state = self.state
    guard state == .readyToSend || state == .error else {
      throw PostError(acceptedCount: 0, reason: .notConnected)
    }
    let isOver = state == .error
    let room = sends.room
    let admitted = sendCompletionQueue.admission.admit(requests.count)
    var limit = 0
    var refusal: PostError.Reason?
    while limit < requests.count && refusal == nil {
      if limit >= room {
        refusal = .queueFull
      } else if limit >= admitted {
        refusal = .completionQueueFull
      } else {
        refusal = isOver ? nil : reasonToRefuse(requests[limit])
        if refusal == nil { limit &+= 1 }
      }
    }
    var accepted = 0
    if isOver {
      noteLate(requests, count: limit)
      accepted = limit
    }
    while accepted < limit {
      let count = min(Self.batchCount, limit &- accepted)
      let taken = hand(requests, from: accepted, count: count)
      accepted &+= taken
      if taken < count {
        refusal = .queueFull
        break
      }
    }
    guard let refusal else { return }
    sendCompletionQueue.admission.withdraw(admitted &- accepted)
    throw PostError(acceptedCount: accepted, reason: refusal)
  }

  /// Requests that come when all is over never reach the device, which may not look at its queues any
  /// more; the completion queue flushes them behind the device's own.
  private func noteLate(_ requests: Span<SendRequest>, count: Int) {
    let first = sends.next
    for index in 0..<count { _ = sends.note(first &+ UInt64(index), requests[index]) }
    sends.advance(count)
    lateSends.begin(at: first)
    sendCompletionQueue.flushLate(self)
  }

  private func noteLate(_ requests: Span<ReceiveRequest>, count: Int) {
    let first = receives.next
    for index in 0..<count { receives.note(first &+ UInt64(index), requests[index]) }
    receives.advance(count)
    lateReceives.begin(at: first)
    receiveCompletionQueue.flushLate(self)
  }

  private func reasonToRefuse(_ request: SendRequest) -> PostError.Reason? {
    let byteCount = request.elements.byteCount
    if request.flags.contains(.inline) {
      if request.opcode == .read { return .unsupported }
      return byteCount > device.maximumInlineByteCount ? .tooLong : nil
    }
    switch request.opcode {
    case .sendWithImmediate, .writeWithImmediate:
      if device.isIWARP { return .unsupported }
    default: break
    }
    return byteCount > device.maximumMessageByteCount ? .tooLong : nil
  }

  /// One list; returns how many of it the device took.
  private func hand(_ requests: Span<SendRequest>, from start: Int, count: Int) -> Int {
    unsafe withUnsafeTemporaryAllocation(of: ibv_send_wr.self, capacity: count) { list in
      unsafe withUnsafeTemporaryAllocation(of: ibv_sge.self, capacity: 2 * count) { elements in
        let first = sends.next
        for index in 0..<count {
          let request = requests[start &+ index]
          let number = first &+ UInt64(index)
          let isSignaled = sends.note(number, request)
          let place = unsafe elements.baseAddress! + 2 &* index
          let elementCount = unsafe request.elements.write(to: place)
          unsafe (list.baseAddress! + index).initialize(
            to: request.verbs(
              number: number, isSignaled: isSignaled, elements: place, count: elementCount))
          if index > 0 { unsafe list[index &- 1].next = list.baseAddress! + index }
        }
        sends.advance(count)
        var bad: UnsafeMutablePointer<ibv_send_wr>?
        guard unsafe ibv_post_send(handle, list.baseAddress!, &bad) != 0 else { return count }
        guard let bad = unsafe bad else {
          // libsiw has them all, and could not tell the kernel: the connection is about to end.
          return count
        }
        let taken = unsafe bad - list.baseAddress!
        sends.takeBack(count &- taken)
        return taken
      }
    }
  }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    precondition(sharedReceives == nil, "post to the shared receive queue instead")
    let room = receives.room
    let admitted = receiveCompletionQueue.admission.admit(requests.count)
    let limit = min(requests.count, room, admitted)
    var accepted = 0
    if state == .error {
      noteLate(requests, count: limit)
      accepted = limit
    }
    while accepted < limit {
      let count = min(Self.batchCount, limit &- accepted)
      let taken = hand(requests, from: accepted, count: count)
      accepted &+= taken
      if taken < count { break }
    }
    guard accepted < requests.count else { return }
    receiveCompletionQueue.admission.withdraw(admitted &- accepted)
    throw PostError(
      acceptedCount: accepted,
      reason: accepted >= admitted && accepted < room ? .completionQueueFull : .queueFull)
  }

  private func hand(_ requests: Span<ReceiveRequest>, from start: Int, count: Int) -> Int {
    let first = receives.next
    for index in 0..<count { receives.note(first &+ UInt64(index), requests[start &+ index]) }
    receives.advance(count)
    let taken = unsafe requests.extracting(start..<start &+ count).withVerbs(
      for: device, name: { index, _ in (first &+ UInt64(index)) | Self.receiveMark }
    ) { list, bad in unsafe ibv_post_recv(handle, list, &bad) }
    receives.takeBack(count &- taken)
    return taken
  }
}

extension Span where Element == ReceiveRequest {
  /// Lends these as a list of the library's to `post`; returns how many that took.
  ///
  /// - Parameter name: what the device hands back with the end of each.
  func withVerbs(
    for device: OpenDevice, name: (Int, ReceiveRequest) -> UInt64,
    post: (
      UnsafeMutablePointer<ibv_recv_wr>, inout UnsafeMutablePointer<ibv_recv_wr>?
    ) -> CInt
  ) -> Int {
    let count = self.count
    return unsafe withUnsafeTemporaryAllocation(of: ibv_recv_wr.self, capacity: count) { list in
      unsafe withUnsafeTemporaryAllocation(of: ibv_sge.self, capacity: 2 * count) { elements in
        for index in 0..<count {
          let request = self[index]
          let place = unsafe elements.baseAddress! + 2 &* index
          var elementCount = unsafe request.elements.write(to: place)
          // libsiw takes no receive without elements: one of no bytes will do.
          if device.isSoftwareIWARP { elementCount = max(1, elementCount) }
          unsafe (list.baseAddress! + index).initialize(
            to: ibv_recv_wr(
              wr_id: name(index, request), next: nil, sg_list: place, num_sge: elementCount))
          if index > 0 { unsafe list[index &- 1].next = list.baseAddress! + index }
        }
        var bad: UnsafeMutablePointer<ibv_recv_wr>?
        guard unsafe post(list.baseAddress!, &bad) != 0 else { return count }
        return unsafe bad.map { unsafe $0 - list.baseAddress! } ?? 0
      }
    }
  }
}

extension ScatterGatherList {
  /// Writes the elements as the library's, at most two; returns how many.
  @inline(__always)
  fileprivate func write(to place: UnsafeMutablePointer<ibv_sge>) -> CInt {
    unsafe place.initialize(to: first.verbs)
    guard count == 2 else { return CInt(truncatingIfNeeded: count) }
    unsafe (place + 1).initialize(to: second.verbs)
    return 2
  }
}

extension ScatterGatherElement {
  @inline(__always)
  fileprivate var verbs: ibv_sge {
    ibv_sge(addr: address, length: byteCount, lkey: localKey.rawValue)
  }
}

extension SendRequest {
  @inline(__always)
  fileprivate func verbs(
    number: UInt64, isSignaled: Bool, elements: UnsafeMutablePointer<ibv_sge>, count: CInt
  ) -> ibv_send_wr {
    var result = unsafe ibv_send_wr()
    unsafe result.wr_id = number
    unsafe result.sg_list = unsafe elements
    unsafe result.num_sge = count
    var sendFlags: UInt32 = isSignaled ? IBV_SEND_SIGNALED.rawValue : 0
    if flags.contains(.inline) { sendFlags |= IBV_SEND_INLINE.rawValue }
    if flags.contains(.fence) { sendFlags |= IBV_SEND_FENCE.rawValue }
    unsafe result.send_flags = sendFlags
    switch opcode {
    case .send: unsafe result.opcode = IBV_WR_SEND
    case .sendWithImmediate: unsafe result.opcode = IBV_WR_SEND_WITH_IMM
    case .write: unsafe result.opcode = IBV_WR_RDMA_WRITE
    case .writeWithImmediate: unsafe result.opcode = IBV_WR_RDMA_WRITE_WITH_IMM
    case .read: unsafe result.opcode = IBV_WR_RDMA_READ
    }
    unsafe result.imm_data = immediate.bigEndian
    unsafe result.wr.rdma.remote_addr = remoteAddress
    unsafe result.wr.rdma.rkey = remoteKey.rawValue
    return unsafe result
  }
}
