import CFabricVerbs
import FabricAdapterParts
import FabricPlatform
import FabricVerbs

/// Handing requests to the device: lists of them with one doorbell each.
extension RDMAQueuePair {
  /// Receives that go to the device in one list.
  private static let batchCount = 16
  /// Marks the numbers of receives in what the device hands back: a failed completion does not say
  /// which queue it is of.
  static let receiveMark: UInt64 = 1 << 63

  func postSend(_ requests: Span<SendRequest>) throws(PostError) {
    guard state == .readyToSend else { return try postUnconnected(requests) }
    let room = sends.room
    let admitted = sendCompletionQueue.admission.admit(requests.count)
    let limit = min(requests.count, room, admitted)
    var accepted = 0
    var refusal: PostError.Reason?
    while accepted < limit && refusal == nil {
      let wanted = min(SendList.capacity, limit &- accepted)
      let count = prepare(requests, from: accepted, count: wanted)
      if count < wanted { refusal = reasonToRefuse(requests[accepted &+ count]) }
      guard count > 0 else { break }
      sends.advance(count)
      let taken = unsafe list.post(count, to: handle)
      if taken < count {
        sends.takeBack(count &- taken)
        refusal = .queueFull
      }
      accepted &+= taken
    }
    if accepted == requests.count { return }
    sendCompletionQueue.admission.withdraw(admitted &- accepted)
    throw PostError(
      acceptedCount: accepted,
      reason: refusal ?? (accepted == room ? .queueFull : .completionQueueFull))
  }

  /// Notes `count` requests and writes them as the list's; fewer when one of them is refused.
  @inline(__always)
  private func prepare(_ requests: Span<SendRequest>, from start: Int, count: Int) -> Int {
    let first = sends.next
    let places = sends.places
    let interval = sends.interval
    var quiet = unsafe sends.quiet
    defer { unsafe sends.quiet = quiet }
    return unsafe requests.withUnsafeBufferPointer { requests in
      for index in 0..<count {
        let request = unsafe requests.baseAddress! + (start &+ index)
        let byteCount = unsafe request.pointee.elements.byteCount
        let isInline = unsafe request.pointee.flags.contains(.inline)
        let limit = isInline ? maximumInlineByteCount : maximumByteCount
        let mark = unsafe UInt8(1) &<< request.pointee.opcode.rawValue
        if byteCount > limit || mark & doubtful != 0 {
          guard unsafe reasonToRefuse(request.pointee) == nil else { return index }
        }
        let number = first &+ UInt64(index)
        let elements = unsafe places.note(number, request, byteCount: byteCount)
        quiet &+= 1
        // So that the ring never fills with requests of which nothing is heard.
        let isLoud = unsafe quiet >= interval || request.pointee.flags.contains(.signaled)
        if isLoud { quiet = 0 }
        unsafe SendList.set(
          list.requests + index, request, number: number, extraFlags: isLoud ? .signaled : [],
          elements: elements)
      }
      return count
    }
  }

  private func reasonToRefuse(_ request: SendRequest) -> PostError.Reason? {
    let byteCount = request.elements.byteCount
    if request.flags.contains(.inline) {
      if request.opcode == .read { return .unsupported }
      return byteCount > maximumInlineByteCount ? .tooLong : nil
    }
    switch request.opcode {
    case .sendWithImmediate, .writeWithImmediate:
      if device.isIWARP { return .unsupported }
    default: break
    }
    return byteCount > maximumByteCount ? .tooLong : nil
  }

  /// There is no connection yet, and sends are refused, or no more, and they are flushed.
  private func postUnconnected(_ requests: Span<SendRequest>) throws(PostError) {
    guard state == .error else { throw PostError(acceptedCount: 0, reason: .notConnected) }
    let room = sends.room
    let admitted = sendCompletionQueue.admission.admit(requests.count)
    let limit = min(requests.count, room, admitted)
    noteLate(requests, count: limit)
    guard limit < requests.count else { return }
    sendCompletionQueue.admission.withdraw(admitted &- limit)
    throw PostError(
      acceptedCount: limit, reason: limit == room ? .queueFull : .completionQueueFull)
  }

  /// Requests that come when all is over never reach the device, which may not look at its queues any
  /// more; the completion queue flushes them behind the device's own.
  private func noteLate(_ requests: Span<SendRequest>, count: Int) {
    let first = sends.next
    unsafe requests.withUnsafeBufferPointer { requests in
      for index in 0..<count {
        let request = unsafe requests.baseAddress! + index
        let byteCount = unsafe request.pointee.elements.byteCount
        _ = unsafe sends.places.note(first &+ UInt64(index), request, byteCount: byteCount)
      }
    }
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
