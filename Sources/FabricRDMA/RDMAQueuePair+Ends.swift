import CFabricVerbs
import FabricAdapterParts
import FabricVerbs

/// What the device says of ended requests, in our words.
extension RDMAQueuePair {
  /// Writes the end of a request as `result`, on the polling thread of the completion queue that it
  /// came from.
  ///
  /// - Returns: false for a request that ends in silence.
  @inline(__always)
  func ended(
    _ completion: UnsafeMutablePointer<ibv_wc>, _ result: inout WorkCompletion
  ) -> Bool {
    let number = unsafe completion.pointee.wr_id
    guard unsafe completion.pointee.status == IBV_WC_SUCCESS else {
      return unsafe failed(completion, &result)
    }
    if number & Self.receiveMark != 0 {
      unsafe received(number & ~Self.receiveMark, completion, &result)
      return true
    }
    return sent(number, .success, &result)
  }

  private func failed(
    _ completion: UnsafeMutablePointer<ibv_wc>, _ result: inout WorkCompletion
  ) -> Bool {
    let number = unsafe completion.pointee.wr_id
    let isReceive = number & Self.receiveMark != 0
    var status = unsafe WorkCompletionStatus(
      completion.pointee.status, isReceive: isReceive, isSoftwareIWARP: device.isSoftwareIWARP)
    if isReceive {
      result = WorkCompletion(
        id: receiveEnded(number & ~Self.receiveMark), queuePairNumber: self.number, status: status,
        opcode: .receive)
    } else {
      status = statusOfFailed(number, status)
      // A send that finds no way out of the machine fails in words that blame its memory.
      if status == .localProtectionError && device.trouble != nil { status = .transportError }
      _ = sent(number, status, &result)
    }
    if status == .flushed { hasFlushed() } else { fail(Self.reason(status)) }
    return true
  }

  /// The next request that the device never got, flushed; nil when there is none, or the device still
  /// has some to end.
  func nextLate(on queue: RDMACompletionQueue) -> WorkCompletion? {
    if queue === sendCompletionQueue {
      let number = sends.oldest
      if number != sends.next, lateSends.contains(number) {
        var result = WorkCompletion()
        _ = sent(number, statusOfFailed(number, .flushed), &result)
        return result
      }
    }
    if queue === receiveCompletionQueue, sharedReceives == nil {
      let number = receives.oldest
      if number != receives.next, lateReceives.contains(number) {
        receiveCompletionQueue.admission.withdraw(1)
        return WorkCompletion(
          id: receives.end(number), queuePairNumber: self.number, status: .flushed,
          opcode: .receive)
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

  @inline(__always)
  private func sent(
    _ number: UInt64, _ status: WorkCompletionStatus, _ result: inout WorkCompletion
  ) -> Bool {
    let entry = sends.places.entry(number)
    let count = sends.end(number)
    sendCompletionQueue.admission.withdraw(count)
    guard entry.flags.contains(.signaled) || status != .success else { return false }
    result = WorkCompletion(
      id: entry.id, queuePairNumber: self.number, byteCount: entry.byteCount, status: status,
      opcode: entry.opcode.completionOpcode)
    return true
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

  /// The request's own name.
  @inline(__always)
  private func receiveEnded(_ number: UInt64) -> UInt64 {
    if let sharedReceives { return sharedReceives.end(number) }
    receiveCompletionQueue.admission.withdraw(1)
    return receives.end(number)
  }

  @inline(__always)
  private func received(
    _ number: UInt64, _ completion: UnsafeMutablePointer<ibv_wc>, _ result: inout WorkCompletion
  ) {
    result = unsafe WorkCompletion(
      id: receiveEnded(number), queuePairNumber: self.number,
      byteCount: completion.pointee.byte_len, opcode: .receive)
    if unsafe completion.pointee.opcode == IBV_WC_RECV_RDMA_WITH_IMM {
      result.opcode = .receiveWriteImmediate
    }
    if unsafe completion.pointee.wc_flags & IBV_WC_WITH_IMM.rawValue != 0 {
      result.hasImmediate = true
      result.immediate = unsafe UInt32(bigEndian: completion.pointee.imm_data)
    }
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
