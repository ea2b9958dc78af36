import FabricPlatform
public import FabricVerbs
public import Synchronization

/// Posted receives in order: one thread posts, one takes.
@safe
public final class ReceiveQueue: SharedReceiveQueue, @unchecked Sendable {
  public let capacity: Int
  @usableFromInline let mask: Int
  @usableFromInline let entries: UnsafeMutablePointer<ReceiveRequest>
  /// What the elements of receives are checked against.
  @usableFromInline let localKeys: RemoteKeyTable
  @usableFromInline let posted = Atomic<UInt64>(0)
  @usableFromInline let taken = Atomic<UInt64>(0)
  /// Shared between queue pairs whose completion queues several threads may poll.
  public let takers = Mutex(())

  public init(localKeys: RemoteKeyTable, capacity: Int) {
    self.localKeys = localKeys
    self.capacity = capacity
    let slots = nextPowerOfTwo(capacity)
    mask = slots - 1
    unsafe entries = .allocate(capacity: slots)
  }

  deinit { unsafe entries.deallocate() }

  public func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    try post(requests, admitted: requests.count)
  }

  /// Posts at most `admitted` requests.
  public func post(_ requests: Span<ReceiveRequest>, admitted: Int) throws(PostError) {
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
      } else if !localKeys.covers(request.elements.first, writing: true)
        || !localKeys.covers(request.elements.second, writing: true)
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
  public var count: Int {
    Int(
      truncatingIfNeeded: posted.load(ordering: .relaxed) &- taken.load(ordering: .relaxed))
  }

  /// Whether a receive is posted.
  @inlinable
  public var hasReceive: Bool {
    taken.load(ordering: .relaxed) != posted.load(ordering: .acquiring)
  }

  /// Brings near the oldest receive, and the place of the next one that is posted.
  public func prefetchNext() {
    let first = Int(truncatingIfNeeded: taken.load(ordering: .relaxed)) & mask
    unsafe prefetch(entries + first, byteCount: 64)
    let last = Int(truncatingIfNeeded: posted.load(ordering: .relaxed)) & mask
    unsafe prefetch(entries + last, byteCount: 64)
  }

  /// The oldest receive, taken; nil when none is posted.
  @inlinable
  public func take() -> ReceiveRequest? {
    let count = taken.load(ordering: .relaxed)
    guard count != posted.load(ordering: .acquiring) else { return nil }
    let request = unsafe entries[Int(truncatingIfNeeded: count) & mask]
    taken.store(count &+ 1, ordering: .releasing)
    return request
  }
}

/// The smallest power of two that is not less.
public func nextPowerOfTwo(_ count: Int) -> Int {
  count <= 1 ? 1 : 1 << (Int.bitWidth - (count - 1).leadingZeroBitCount)
}

extension RemoteKeyTable {
  /// Whether an element lies in a region that one of these local keys names, with the rights that
  /// its use needs.
  @inlinable
  public func covers(_ element: ScatterGatherElement, writing: Bool) -> Bool {
    if element.byteCount == 0 { return true }
    guard let record = record(for: RemoteKey(rawValue: element.localKey.rawValue)) else {
      return false
    }
    return record.covers(element.address, UInt64(element.byteCount))
      && (!writing || record.access.contains(.localWrite))
  }
}
