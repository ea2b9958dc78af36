import CFabricVerbs
import FabricAdapterParts
import FabricVerbs

/// What the device says of ended requests, in our words.
extension RDMAQueuePair {
  /// On the polling thread of the completion queue that it came from.
  ///
  /// - Returns: nil for a request that ends in silence.
  func ended(_ completion: UnsafeMutablePointer<ibv_wc>) -> WorkCompletion? {
    let number = unsafe completion.pointee.wr_id
    let isReceive = number & Self.receiveMark != 0
    let status = unsafe WorkCompletionStatus(
      completion.pointee.status, isReceive: isReceive, isSoftwareIWARP: device.isSoftwareIWARP)
    let told =
      isReceive
      ? unsafe receiveEnded(number & ~Self.receiveMark, status, completion)
      : sendEnded(number, status)
    if let status = told?.status, status != .success && status != .flushed {
      fail(Self.reason(status))
    } else if status == .flushed {
      hasFlushed()
    }
    return told
  }

  /// The next request that the device never got, flushed; nil when there is none, or the device still
  /// has some to end.
  func nextLate(on queue: RDMACompletionQueue) -> WorkCompletion? {
    if queue === sendCompletionQueue {
      let number = sends.oldest
      if number != sends.next, lateSends.contains(number) { return sendEnded(number, .flushed) }
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

  private func sendEnded(_ number: UInt64, _ status: WorkCompletionStatus) -> WorkCompletion? {
    let (entry, count) = sends.end(number)
    sendCompletionQueue.admission.withdraw(count)
    var status = status
    if status != .success && !hasFailedSend {
      hasFailedSend = true
      // Some devices flush the request that was at fault like those behind it.
      if status == .flushed && !domain.covers(entry.elements) { status = .localProtectionError }
    }
    guard entry.isSignaled || status != .success else { return nil }
    return WorkCompletion(
      id: entry.id, queuePairNumber: self.number, byteCount: entry.byteCount, status: status,
      opcode: entry.opcode.completionOpcode)
  }

  private func receiveEnded(
    _ number: UInt64, _ status: WorkCompletionStatus, _ completion: UnsafeMutablePointer<ibv_wc>
  ) -> WorkCompletion? {
    let id: UInt64
    if let sharedReceives {
      id = sharedReceives.end(number)
    } else {
      id = receives.end(number)
      receiveCompletionQueue.admission.withdraw(1)
    }
    var result = WorkCompletion(
      id: id, queuePairNumber: self.number, status: status, opcode: .receive)
    guard status == .success else { return result }
    result.byteCount = unsafe completion.pointee.byte_len
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
