import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Posting, and the ends of what was posted.
extension TCPQueuePair {
  func postSend(_ requests: Span<SendRequest>) throws(PostError) {
    let state = self.state
    guard state == .readyToSend || state == .error else {
      throw PostError(acceptedCount: 0, reason: .notConnected)
    }
    transmitting.lock()
    let posted = postedCount.load(ordering: .relaxed)
    let retired = retiredCount.load(ordering: .acquiring)
    let room = sendCapacity &- Int(truncatingIfNeeded: posted &- retired)
    let admitted = sendCompletionQueue.admission.admit(requests.count)
    var accepted = 0
    var refusal: PostError.Reason?
    for index in requests.indices {
      if index >= room {
        refusal = .queueFull
      } else if index >= admitted {
        refusal = .completionQueueFull
      } else {
        // A queue pair that has failed takes requests only to flush them.
        refusal = state == .error ? nil : reasonToRefuse(requests[index])
      }
      if refusal != nil { break }
      let slot = Int(truncatingIfNeeded: posted &+ UInt64(accepted)) & entryMask
      unsafe entries[slot] = SendEntry(request: requests[index])
      accepted &+= 1
    }
    postedCount.store(posted &+ UInt64(accepted), ordering: .releasing)
    if accepted > 0 && state == .readyToSend { startTransmitting(from: posted) }
    transmitting.unlock()
    if accepted > 0 { raise() }
    if let refusal {
      sendCompletionQueue.admission.withdraw(admitted &- accepted)
      throw PostError(acceptedCount: accepted, reason: refusal)
    }
  }

  private func reasonToRefuse(_ request: SendRequest) -> PostError.Reason? {
    let byteCount = request.elements.byteCount
    let isInline = request.flags.contains(.inline)
    switch request.opcode {
    case .sendWithImmediate: return .unsupported
    case .writeWithImmediate where !options.hasImmediateData: return .unsupported
    case .read where isInline || output.outboundReadDepth == 0: return .unsupported
    default: break
    }
    if isInline { return byteCount > SendEntry.maximumInlineByteCount ? .tooLong : nil }
    guard byteCount <= 1 << 30 else { return .tooLong }
    let writing = request.opcode == .read
    guard localKeys.covers(request.elements.first, writing: writing),
      localKeys.covers(request.elements.second, writing: writing)
    else { return .invalidElement }
    return nil
  }

  // MARK: Ends

  /// Something has ended, or will not any more, that was not told yet.
  var hasEndedSends: Bool {
    let retired = retiredCount.load(ordering: .relaxed)
    if sentCount.load(ordering: .sequentiallyConsistent) != retired { return true }
    return state == .error && postedCount.load(ordering: .sequentiallyConsistent) != retired
  }

  /// Tells the ends of requests in order; returns the count of completions at the new end.
  func retireSends(
    into completions: inout MutableSpan<WorkCompletion>, from start: Int
  ) -> Int {
    var retired = retiredCount.load(ordering: .relaxed)
    // The state before the counts: nothing is sent once it has failed.
    let hasFailed = state == .error
    let sent = sentCount.load(ordering: .acquiring)
    let end = hasFailed ? postedCount.load(ordering: .acquiring) : sent
    guard retired != end else { return start }
    var count = start
    let first = retired
    while retired != end && count < completions.count {
      let request = unsafe entries[Int(truncatingIfNeeded: retired) & entryMask].request
      var status = WorkCompletionStatus.success
      if hasReportedFailure || retired >= sent {
        status = .flushed
      } else if request.opcode == .read {
        if readsAnswered.load(ordering: .acquiring) > readsRetired {
          readsRetired &+= 1
        } else if hasFailed {
          status =
            WorkCompletionStatus(rawValue: readFailure.load(ordering: .acquiring)) ?? .flushed
        } else {
          break
        }
      }
      if status != .success { hasReportedFailure = true }
      retired &+= 1
      if request.flags.contains(.signaled) || status != .success {
        completions[count] = WorkCompletion(
          id: request.id, queuePairNumber: number,
          byteCount: UInt32(truncatingIfNeeded: request.elements.byteCount), status: status,
          opcode: request.opcode.completionOpcode)
        count &+= 1
      }
    }
    if retired != first {
      sendCompletionQueue.admission.withdraw(Int(truncatingIfNeeded: retired &- first))
      retiredCount.store(retired, ordering: .releasing)
    }
    return count
  }
}
