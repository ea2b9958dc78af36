import FabricPlatform

/// The members of a completion queue that have something to do, in the order of their turns. The
/// completion queue keeps them: plain references, so that a poll neither counts nor checks access.
///
/// Threads: the completion queue's polling thread.
@safe
final class ActiveMembers {
  private typealias Reference = UncountedReference<CompletionQueueMember>

  /// A ring, of a power of two.
  private var places: UnsafeMutablePointer<Reference>
  private var capacity = 8
  private var start = 0
  private(set) var count = 0

  init() { unsafe places = .allocate(capacity: capacity) }

  deinit { unsafe places.deallocate() }

  /// Whose turn it is; traps when there is nobody.
  var first: UncountedReference<CompletionQueueMember> {
    precondition(count > 0, "nobody is active")
    return unsafe places[start]
  }

  /// Whose turn comes so many turns behind the first one's; there must be as many.
  func member(behind count: Int) -> UncountedReference<CompletionQueueMember> {
    unsafe places[(start &+ count) & (capacity &- 1)]
  }

  func removeFirst() {
    precondition(count > 0, "nobody is active")
    start = (start &+ 1) & (capacity &- 1)
    count &-= 1
  }

  /// Its turn comes behind all others'.
  func append(_ member: UncountedReference<CompletionQueueMember>) {
    if count == capacity { grow() }
    unsafe (places + ((start &+ count) & (capacity &- 1))).initialize(to: member)
    count &+= 1
  }

  /// The others keep their order.
  func remove(_ member: CompletionQueueMember) {
    for _ in 0..<count {
      let next = first
      removeFirst()
      if !next.refers(to: member) { append(next) }
    }
  }

  private func grow() {
    let larger = UnsafeMutablePointer<Reference>.allocate(capacity: 2 * capacity)
    for index in 0..<count {
      unsafe (larger + index).initialize(to: places[(start &+ index) & (capacity &- 1)])
    }
    unsafe places.deallocate()
    unsafe places = larger
    capacity *= 2
    start = 0
  }
}
