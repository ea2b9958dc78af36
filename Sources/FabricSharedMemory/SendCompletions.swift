import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Completing what was posted.
extension SharedMemoryQueuePair {
  /// Retires ended requests in order; returns the count of completions at the new end.
  func retireSends(
    into completions: inout MutableSpan<WorkCompletion>, from start: Int
  ) -> Int {
    var retired = retiredCount.load(ordering: .relaxed)
    let outstanding = publishedCount.load(ordering: .acquiring) &- retired
    guard outstanding != 0 else { return start }
    let hasFailed = state == .error
    // Each look at the peer's word takes its line away from it: where nobody waits for a
    // completion, there is time until half of the queue has ended. (SM-14)
    guard
      hasFailed || signaledCount.load(ordering: .relaxed) != retiredSignaledCount
        || outstanding > UInt64(truncatingIfNeeded: sendCapacity / 2)
    else { return start }
    // Pairs with the release in `receive`: `failure` before `consumed`, both behind the work.
    let consumed = peerConsumed
    // Read behind `consumed`: the peer cannot have consumed what was published later.
    let published = publishedCount.load(ordering: .acquiring)
    guard hasFailed || accept(consumed: consumed, published) else { return start }
    var count = start
    let first = retired
    while retired != published && count < completions.count {
      let slot = Int(truncatingIfNeeded: retired) & (nextPowerOfTwoCapacity &- 1)
      let entry = unsafe sendEntries[slot]
      var status = WorkCompletionStatus.success
      if entry.endLine <= consumed && !hasRefusedClaim {
        if entry.opcode == .read, unsafe !fetch(readEntries[slot]) {
          status = .localProtectionError
        }
      } else if hasFailed {
        status = endOfFailed()
      } else {
        let failure = peer.failure.loadAcquiring()
        guard failure != 0, entry.endLine > peerConsumed else { break }
        status = .flushed
        fail(.failure("the peer refused a request"))
        status = endOfFailed()
      }
      retired &+= 1
      if entry.isSignaled || entry.opcode == .read { retiredSignaledCount &+= 1 }
      if entry.isSignaled || status != .success {
        completions[count] = WorkCompletion(
          id: entry.id, queuePairNumber: number, status: status,
          opcode: entry.opcode.completionOpcode)
        count &+= 1
      }
      if status == .localProtectionError { fail(.failure("a read's target is gone")) }
    }
    if retired != first {
      sendCompletionQueue.admission.withdraw(Int(truncatingIfNeeded: retired &- first))
      retiredCount.store(retired, ordering: .releasing)
    }
    return count
  }

  /// Whether the peer's claim lies between its last one and the end of what was published; if not,
  /// the queue pair fails and the next poll flushes what was posted. (SM-22)
  @inline(__always)
  private func accept(consumed: UInt64, _ published: UInt64) -> Bool {
    let last = unsafe sendEntries[
      Int(truncatingIfNeeded: published &- 1) & (nextPowerOfTwoCapacity &- 1)]
    guard consumed >= seenConsumedLines, consumed <= last.endLine else {
      hasReportedFailure = true
      hasRefusedClaim = true
      fail(.failure("the peer claims to have consumed what it cannot have"))
      return false
    }
    seenConsumedLines = consumed
    return true
  }

  private var peerConsumed: UInt64 { peer.consumed.loadAcquiring() }

  /// The status of the oldest request that was not carried out: the peer's word for it once, then
  /// `flushed`.
  private func endOfFailed() -> WorkCompletionStatus {
    guard !hasReportedFailure else { return .flushed }
    hasReportedFailure = true
    let failure = peer.failure.loadAcquiring()
    if failure != 0, let status = WorkCompletionStatus(rawValue: UInt8(truncatingIfNeeded: failure))
    {
      return status == .success ? .remoteOperationError : status
    }
    return connection.peerHasDied ? .transportError : .flushed
  }

  /// Fetches the bytes of a read that the target has allowed.
  private func fetch(_ entry: ReadEntry) -> Bool {
    let elements = entry.elements
    let isValid =
      domain.covers(elements.first, writing: true) && domain.covers(elements.second, writing: true)
    let done =
      isValid
      && remoteWork.withLock { memory in
        let byteCount = UInt32(elements.byteCount)
        if memory.translate(entry.remoteAddress, byteCount) == nil {
          // The announcement may still lie in the socket.
          connection.takeAnnouncements(&memory)
        }
        guard let source = memory.translate(entry.remoteAddress, byteCount) else {
          return byteCount == 0
        }
        for (element, offset) in [
          (elements.first, 0), (elements.second, UInt64(elements.first.byteCount)),
        ] where element.byteCount > 0 {
          unsafe UnsafeMutableRawPointer(bitPattern: UInt(element.address))!.copyMemory(
            from: UnsafeRawPointer(bitPattern: UInt(source &+ offset))!,
            byteCount: Int(element.byteCount))
        }
        return true
      }
    readsFetchedWord.add(1, ordering: .releasing)
    // Pairs with the acquire in `receive`: the target goes on behind the read.
    own.readsDone.storeReleasing(readsFetched)
    ringForReceives()
    return done
  }
}
