import FabricPlatform
import FabricVerbs
import Synchronization

/// One queue pair's part in a completion queue.
///
/// The queue pair keeps its members, and the completion queue keeps the queue pair, so neither
/// reference counts.
final class CompletionQueueMember: @unchecked Sendable {
  /// Set when the completion queue learns of the member, before anything else happens to it.
  private(set) var queuePair: UncountedReference<TCPQueuePair>!
  private let completionQueue: UncountedReference<TCPCompletionQueue>
  /// The queue pair's.
  let number: UInt32
  let sends: Bool
  let receives: Bool
  /// Set by whoever makes work for the poller, until the poller finds none.
  private let isRaised = Atomic<Bool>(false)

  // The polling thread's own.
  var isActive = false

  init(number: UInt32, in completionQueue: TCPCompletionQueue, sends: Bool, receives: Bool) {
    self.completionQueue = UncountedReference(completionQueue)
    self.number = number
    self.sends = sends
    self.receives = receives
  }

  func belongs(to queuePair: TCPQueuePair) {
    self.queuePair = UncountedReference(queuePair)
  }

  /// There is something to look at here.
  @inline(__always)
  func raise() {
    // Pairs with the exchange in `lower`: the work is there before the flag, or is found after it.
    guard !isRaised.exchange(true, ordering: .sequentiallyConsistent) else { return }
    completionQueue.with { $0.raise(self) }
  }

  /// The poller has found nothing; it looks again after this.
  private func lower() { isRaised.store(false, ordering: .sequentiallyConsistent) }

  /// The poller has found something of its own accord, and is about to look. Who does not see this yet
  /// raises it once more, which does no harm.
  func raiseQuietly() { isRaised.store(true, ordering: .relaxed) }

  /// Whether there is more to do here; if not, whoever makes work raises this member again.
  func staysActive() -> Bool {
    if hasWork { return true }
    lower()
    guard hasWork else {
      isActive = false
      return false
    }
    raiseQuietly()
    return true
  }

  // MARK: The queue pair's part

  @inline(__always)
  func poll(
    into completions: inout MutableSpan<WorkCompletion>, from start: Int, expectsInput: Bool
  ) -> Int {
    queuePair.with { queuePair in
      if expectsInput { queuePair.expectInput() }
      return queuePair.poll(self, into: &completions, from: start)
    }
  }

  // MARK: Before a poll

  func prefetchQueuePair() { queuePair.prefetch(byteCount: TCPQueuePair.prefetchedByteCount) }
  func prefetchParts() { queuePair.with { $0.prefetchParts() } }
  func prefetchContents() { queuePair.with { $0.prefetchContents() } }

  func expectInput(withEnd hasEnded: Bool) {
    queuePair.with { queuePair in
      if hasEnded { queuePair.mayHaveEnded.store(true, ordering: .relaxed) }
      queuePair.expectInput()
    }
  }

  /// Whether polling would do anything.
  private var hasWork: Bool { queuePair.with { $0.hasWork(for: self) } }

  /// Requests that the queues of this part hold.
  var outstandingCount: Int {
    queuePair.with { $0.outstandingCount(for: self) }
  }
}
