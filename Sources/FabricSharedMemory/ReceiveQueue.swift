import FabricPlatform
import FabricVerbs
import Synchronization

/// Posted receives in order: one thread posts, one takes.
@safe
final class ReceiveQueue: SharedReceiveQueue, @unchecked Sendable {
  let capacity: Int
  private let mask: Int
  private let entries: UnsafeMutablePointer<ReceiveRequest>
  private let domain: SharedMemoryProtectionDomain
  private let posted = Atomic<UInt64>(0)
  private let taken = Atomic<UInt64>(0)
  /// Shared between queue pairs whose completion queues several threads may poll.
  let takers = Mutex(())

  init(domain: SharedMemoryProtectionDomain, capacity: Int) {
    self.domain = domain
    self.capacity = capacity
    let slots = nextPowerOfTwo(capacity)
    mask = slots - 1
    unsafe entries = .allocate(capacity: slots)
  }

  deinit { unsafe entries.deallocate() }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    try post(requests, admitted: requests.count)
  }

  /// Posts at most `admitted` requests.
  func post(_ requests: Span<ReceiveRequest>, admitted: Int) throws(PostError) {
    var count = posted.load(ordering: .relaxed)
    // Pairs with the release in `take`: the slots have been read.
    let limit = taken.load(ordering: .acquiring) &+ UInt64(capacity)
    var refusal: PostError.Reason?
    var accepted = 0
    for index in requests.indices {
      let request = requests[index]
      if count == limit {
        refusal = .queueFull
      } else if index >= admitted {
        refusal = .completionQueueFull
      } else if !domain.covers(request.elements.first, writing: true)
        || !domain.covers(request.elements.second, writing: true)
      {
        refusal = .invalidElement
      }
      if refusal != nil { break }
      unsafe entries[Int(truncatingIfNeeded: count) & mask] = request
      count &+= 1
      accepted &+= 1
    }
    // Pairs with the acquire in `take`.
    posted.store(count, ordering: .releasing)
    if let refusal { throw PostError(acceptedCount: accepted, reason: refusal) }
  }

  /// Receives posted now.
  var count: Int {
    Int(
      truncatingIfNeeded: posted.load(ordering: .relaxed) &- taken.load(ordering: .relaxed))
  }

  /// Whether a receive is posted.
  @inline(__always)
  var hasReceive: Bool {
    taken.load(ordering: .relaxed) != posted.load(ordering: .acquiring)
  }

  /// The oldest receive, taken; nil when none is posted.
  @inline(__always)
  func take() -> ReceiveRequest? {
    let count = taken.load(ordering: .relaxed)
    guard count != posted.load(ordering: .acquiring) else { return nil }
    let request = unsafe entries[Int(truncatingIfNeeded: count) & mask]
    taken.store(count &+ 1, ordering: .releasing)
    return request
  }
}

extension SharedMemoryQueuePair {
  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    precondition(!usesSharedReceiveQueue, "post to the shared receive queue instead")
    let admitted = receiveCompletionQueue.admit(requests.count)
    do {
      try receiveQueue.post(requests, admitted: admitted)
    } catch {
      receiveCompletionQueue.withdrawAdmission(admitted &- error.acceptedCount)
      throw error
    }
  }
}
