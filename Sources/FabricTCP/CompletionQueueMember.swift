import FabricVerbs
import Synchronization

/// One queue pair's part in a completion queue.
final class CompletionQueueMember: @unchecked Sendable {
  /// The queue pair keeps its members, and the completion queue keeps the queue pair.
  unowned(unsafe) let queuePair: TCPQueuePair
  unowned(unsafe) let completionQueue: TCPCompletionQueue
  /// The queue pair's.
  let number: UInt32
  let sends: Bool
  let receives: Bool
  /// Set by whoever makes work for the poller, until the poller finds none.
  private let isRaised = Atomic<Bool>(false)

  // The polling thread's own.
  var isActive = false

  init(
    _ queuePair: TCPQueuePair, in completionQueue: TCPCompletionQueue, sends: Bool, receives: Bool
  ) {
    unsafe self.queuePair = queuePair
    unsafe self.completionQueue = completionQueue
    number = queuePair.number
    self.sends = sends
    self.receives = receives
  }

  /// There is something to look at here.
  @inline(__always)
  func raise() {
    // Pairs with the exchange in `lower`: the work is there before the flag, or is found after it.
    guard !isRaised.exchange(true, ordering: .sequentiallyConsistent) else { return }
    unsafe completionQueue.raise(self)
  }

  /// The poller has found nothing; it looks again after this.
  func lower() { isRaised.store(false, ordering: .sequentiallyConsistent) }

  /// The poller has found something of its own accord.
  func raiseQuietly() { isRaised.store(true, ordering: .sequentiallyConsistent) }
}
