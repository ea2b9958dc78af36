import CFabricVerbs
import FabricAdapterParts
import FabricVerbs

/// What the device says of ended requests, in our words.
extension RDMAQueuePair {
  /// Writes the ends of this queue pair's requests, from `first` up to one of another's or of the other
  /// queue, and tells the ring of all of them at once; on the polling thread of the completion queue
  /// that they came from.
  ///
  /// - Parameters:
  ///   - results: where they go.
  ///   - count: the results that are there; some requests end in silence.
  /// - Returns: the first end that is not one of these, or `end`.
  @inline(__always)
  func takeEnds(
    _ first: UnsafePointer<ibv_wc>, end: UnsafePointer<ibv_wc>,
    into results: UnsafeMutablePointer<WorkCompletion>, _ count: inout Int
  ) -> UnsafePointer<ibv_wc> {
    if unsafe first.pointee.isReceive {
      return unsafe takeReceives(first, end: end, into: results, &count)
    }
    let places = sends.places
    let own = number
    var place = unsafe first
    var number: UInt64
    repeat {
      number = unsafe place.pointee.wr_id
      let entry = places.entry(number)
      if unsafe place.pointee.status != IBV_WC_SUCCESS {
        unsafe (results + count).initialize(to: failedSend(place))
        count &+= 1
      } else if entry.flags.contains(.signaled) {
        unsafe (results + count).initialize(
          to: WorkCompletion(
            id: entry.id, queuePairNumber: own, opcode: place.pointee.opcode.ofSend))
        count &+= 1
      }
      unsafe place += 1
    } while unsafe place != end && place.pointee.qp_num == own && !place.pointee.isReceive
    sendsEnded(before: number &+ 1)
    return unsafe place
  }

  @inline(never)
  private func takeReceives(
    _ first: UnsafePointer<ibv_wc>, end: UnsafePointer<ibv_wc>,
    into results: UnsafeMutablePointer<WorkCompletion>, _ count: inout Int
  ) -> UnsafePointer<ibv_wc> {
    let own = number
    var place = unsafe first
    repeat {
      let hasSucceeded = unsafe place.pointee.status == IBV_WC_SUCCESS
      unsafe (results + count).initialize(
        to: hasSucceeded ? received(place) : failedReceive(place))
      count &+= 1
      unsafe place += 1
    } while unsafe place != end && place.pointee.qp_num == own && place.pointee.isReceive
    if sharedReceives == nil { receivesEnded(unsafe place - first) }
    return unsafe place
  }

  @inline(never)
  private func failedReceive(_ completion: UnsafePointer<ibv_wc>) -> WorkCompletion {
    let status = unsafe WorkCompletionStatus(
      completion.pointee.status, isReceive: true, isSoftwareIWARP: device.isSoftwareIWARP)
    hasFailed(status)
    return unsafe WorkCompletion(
      id: receiveID(completion.pointee.wr_id), queuePairNumber: number, status: status,
      opcode: .receive)
  }

  @inline(never)
  private func failedSend(_ completion: UnsafePointer<ibv_wc>) -> WorkCompletion {
    let status = unsafe WorkCompletionStatus(
      completion.pointee.status, isReceive: false, isSoftwareIWARP: device.isSoftwareIWARP)
    var result = unsafe failedSend(completion.pointee.wr_id, status)
    // A send that finds no way out of the machine fails in words that blame its memory.
    if result.status == .localProtectionError && device.trouble != nil {
      result.status = .transportError
    }
    hasFailed(result.status)
    return result
  }

  private func failedSend(_ number: UInt64, _ status: WorkCompletionStatus) -> WorkCompletion {
    let entry = sends.places.entry(number)
    return WorkCompletion(
      id: entry.id, queuePairNumber: self.number, status: statusOfFailed(number, status),
      opcode: entry.opcode.completionOpcode)
  }

  private func hasFailed(_ status: WorkCompletionStatus) {
    if status == .flushed { hasFlushed() } else { fail(Self.reason(status)) }
  }

  /// The next request that the device never got, flushed; nil when there is none, or the device still
  /// has some to end.
  func nextLate(on queue: RDMACompletionQueue) -> WorkCompletion? {
    if queue === sendCompletionQueue {
      let number = sends.oldest
      if number != sends.next, lateSends.contains(number) {
        let result = failedSend(number, .flushed)
        sendsEnded(before: number &+ 1)
        return result
      }
    }
    if queue === receiveCompletionQueue, sharedReceives == nil {
      let number = receives.oldest
      if number != receives.next, lateReceives.contains(number) {
        let result = WorkCompletion(
          id: receives.id(number), queuePairNumber: self.number, status: .flushed,
          opcode: .receive)
        receivesEnded(1)
        return result
      }
    }
    return nil
  }

  /// Whether `nextLate` has something, now or when the device has ended what it has.
  func hasLate(on queue: RDMACompletionQueue) -> Bool {
    queue === sendCompletionQueue && sends.next != sends.oldest
      && lateSends.contains(sends.next &- 1)
      || queue === receiveCompletionQueue && receives.next != receives.oldest
        && lateReceives.contains(receives.next &- 1)
  }

  /// All sends before `number` have ended.
  @inline(__always)
  private func sendsEnded(before number: UInt64) {
    sendCompletionQueue.admission.withdraw(sends.end(before: number))
  }

  /// `count` more of the own receive queue's have ended.
  @inline(__always)
  private func receivesEnded(_ count: Int) {
    receives.end(count)
    receiveCompletionQueue.admission.withdraw(count)
  }

  /// Some devices flush the request that was at fault like those behind it.
  private func statusOfFailed(
    _ number: UInt64, _ status: WorkCompletionStatus
  ) -> WorkCompletionStatus {
    defer { hasFailedSend = true }
    let isAtFault =
      status == .flushed && !hasFailedSend && !domain.covers(sends.places.memory(number))
    return isAtFault ? .localProtectionError : status
  }

  /// The request's own name, of what the device hands back; a shared one has ended.
  @inline(__always)
  private func receiveID(_ marked: UInt64) -> UInt64 {
    let number = marked & ~Self.receiveMark
    return sharedReceives.map { $0.end(number) } ?? receives.id(number)
  }

  @inline(__always)
  private func received(_ completion: UnsafePointer<ibv_wc>) -> WorkCompletion {
    var result = unsafe WorkCompletion(
      id: receiveID(completion.pointee.wr_id), queuePairNumber: self.number,
      byteCount: completion.pointee.byte_len, opcode: .receive)
    if unsafe completion.pointee.opcode == IBV_WC_RECV_RDMA_WITH_IMM {
      result.opcode = .receiveWriteImmediate
    }
    if unsafe completion.pointee.wc_flags & IBV_WC_WITH_IMM.rawValue != 0 {
      result.hasImmediate = true
      result.immediate = unsafe UInt32(bigEndian: completion.pointee.imm_data)
    }
    return result
  }

  private static func reason(_ status: WorkCompletionStatus) -> DisconnectReason {
    status == .transportError ? .peerDied : .failure("a request failed: \(status)")
  }
}

extension WorkCompletionStatus {
  fileprivate init(_ status: ibv_wc_status, isReceive: Bool, isSoftwareIWARP: Bool) {
    self =
      switch status {
      case IBV_WC_SUCCESS: .success
      case IBV_WC_WR_FLUSH_ERR: .flushed
      case IBV_WC_LOC_LEN_ERR: .lengthError
      // The kernel's RoCE says so of a receive that is shorter than its message.
      case IBV_WC_LOC_QP_OP_ERR where isReceive: .lengthError
      // The kernel's iWARP says so of a request that it was sending when the connection ended.
      case IBV_WC_LOC_QP_OP_ERR where isSoftwareIWARP: .flushed
      case IBV_WC_LOC_PROT_ERR, IBV_WC_LOC_ACCESS_ERR, IBV_WC_LOC_QP_OP_ERR, IBV_WC_MW_BIND_ERR:
        .localProtectionError
      case IBV_WC_REM_ACCESS_ERR: .remoteAccessError
      case IBV_WC_REM_INV_REQ_ERR: .remoteInvalidRequest
      case IBV_WC_REM_OP_ERR, IBV_WC_REM_ABORT_ERR: .remoteOperationError
      default: .transportError
      }
  }
}

extension ibv_wc {
  @inline(__always)
  fileprivate var isReceive: Bool { wr_id & RDMAQueuePair.receiveMark != 0 }
}

extension ibv_wc_opcode {
  /// Of a request of the send queue that has succeeded: those that we post have the same values.
  @inline(__always)
  fileprivate var ofSend: WorkCompletionOpcode {
    WorkCompletionOpcode(rawValue: UInt8(truncatingIfNeeded: rawValue)) ?? .send
  }
}
