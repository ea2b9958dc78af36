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
    let count = requests.count
    let admitted = sendCompletionQueue.admission.admit(count)
    // Mostly there is room for all, one list holds them, and none is refused.
    guard isReadyToSend, admitted == count, count <= sends.room, 1...SendList.capacity ~= count,
      prepare(requests, from: 0, count: count) == count
    else { return try postInParts(requests, admitted: admitted) }
    let taken = post(count)
    if taken < count { throw refusal(.queueFull, accepted: taken, admitted: admitted) }
  }

  /// The first requests of these, as far as they can be taken, in as many lists as that needs.
  @inline(never)
  private func postInParts(_ requests: Span<SendRequest>, admitted: Int) throws(PostError) {
    guard isReadyToSend else { return try postUnconnected(requests, admitted: admitted) }
    let room = sends.room
    let limit = min(requests.count, room, admitted)
    var reason: PostError.Reason = limit == room ? .queueFull : .completionQueueFull
    var accepted = 0
    while accepted < limit {
      let wanted = min(SendList.capacity, limit &- accepted)
      var count = prepare(requests, from: accepted, count: wanted)
      if count < wanted {
        reason = reasonToRefuse(requests[accepted &+ count])
        // Once more, as a list that ends with the last that is good.
        count = prepare(requests, from: accepted, count: count)
        guard count > 0 else { break }
      }
      let taken = post(count)
      accepted &+= taken
      if taken < count { reason = .queueFull }
      if taken < wanted { break }
    }
    if accepted == requests.count { return }
    throw refusal(reason, accepted: accepted, admitted: admitted)
  }

  /// Notes `count` requests and writes them as a list; returns how many it can be. Where that is not
  /// `count` there is no list.
  @inline(__always)
  private func prepare(_ requests: Span<SendRequest>, from start: Int, count: Int) -> Int {
    let places = sends.places
    return unsafe requests.withUnsafeBufferPointer { requests in
      guard count > 0 else { return 0 }
      var request = unsafe requests.baseAddress! + start
      var place = unsafe list.end - count
      var number = sends.next
      repeat {
        let kind = unsafe sendKinds[request]
        guard unsafe request.pointee.elements.byteCount <= kind.maximumByteCount else {
          return unsafe count &- (list.end - place)
        }
        unsafe places.note(number, request)
        unsafe SendList.set(place, request, number: number, opcode: kind.opcode)
        number &+= 1
        unsafe request += 1
        unsafe place += 1
      } while unsafe place != list.end
      return count
    }
  }

  /// Hands the list of `count` requests to the device; returns how many it has taken.
  @inline(__always)
  private func post(_ count: Int) -> Int {
    if sends.isDue(count) { list.askForCompletion() }
    // Before the device has them, for it may end some at once.
    sends.advance(count, isHeard: list.endsWithCompletion)
    let taken = unsafe list.post(count, to: handle)
    if taken < count { sends.takeBack(count &- taken) }
    return taken
  }

  /// Those that were admitted and not accepted are so no more.
  private func refusal(
    _ reason: PostError.Reason, accepted: Int, admitted: Int
  ) -> PostError {
    sendCompletionQueue.admission.withdraw(admitted &- accepted)
    return PostError(acceptedCount: accepted, reason: reason)
  }

  private func reasonToRefuse(_ request: SendRequest) -> PostError.Reason {
    let kind = sendKinds[request.opcode, isInline: request.flags.contains(.inline)]
    return kind.isSupported ? .tooLong : .unsupported
  }

  /// There is no connection yet, and sends are refused, or no more, and they are flushed.
  private func postUnconnected(
    _ requests: Span<SendRequest>, admitted: Int
  ) throws(PostError) {
    guard state == .error else { throw refusal(.notConnected, accepted: 0, admitted: admitted) }
    let room = sends.room
    let limit = min(requests.count, room, admitted)
    noteLate(requests, count: limit)
    guard limit < requests.count else { return }
    throw refusal(
      limit == room ? .queueFull : .completionQueueFull, accepted: limit, admitted: admitted)
  }

  /// Requests that come when all is over never reach the device, which may not look at its queues any
  /// more; the completion queue flushes them behind the device's own.
  private func noteLate(_ requests: Span<SendRequest>, count: Int) {
    let first = sends.next
    unsafe requests.withUnsafeBufferPointer { requests in
      for index in 0..<count {
        let request = unsafe requests.baseAddress! + index
        unsafe sends.places.note(first &+ UInt64(index), request)
      }
    }
    sends.advance(count, isHeard: true)
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
    return unsafe withUnsafeBufferPointer { requests in
      unsafe withUnsafeTemporaryAllocation(of: ibv_recv_wr.self, capacity: count) { list in
        for index in 0..<count {
          let request = unsafe requests.baseAddress! + index
          var elementCount = unsafe CInt(truncatingIfNeeded: request.pointee.elements.count)
          // libsiw takes no receive without elements: one of no bytes will do.
          if device.isSoftwareIWARP { elementCount = max(1, elementCount) }
          unsafe (list.baseAddress! + index).initialize(
            to: ibv_recv_wr(
              wr_id: name(index, request.pointee), next: nil,
              sg_list: ElementsInPlace.of(request), num_sge: elementCount))
          if index > 0 { unsafe list[index &- 1].next = list.baseAddress! + index }
        }
        var bad: UnsafeMutablePointer<ibv_recv_wr>?
        guard unsafe post(list.baseAddress!, &bad) != 0 else { return count }
        return unsafe bad.map { unsafe $0 - list.baseAddress! } ?? 0
      }
    }
  }
}
