import FabricPlatform

/// The members of a completion queue that a poll looks at, in no order. The completion queue keeps
/// them; a list of plain references, so that a poll neither counts nor checks access.
///
/// Threads: the completion queue's polling thread.
@safe
final class ActiveMembers {
  private var places: UnsafeMutablePointer<UncountedReference<CompletionQueueMember>>
  private var capacity = 8
  private(set) var count = 0

  init() { unsafe places = .allocate(capacity: capacity) }

  deinit { unsafe places.deallocate() }

  /// The reference at `index`; traps outside.
  subscript(index: Int) -> UncountedReference<CompletionQueueMember> {
    precondition(index >= 0 && index < count, "outside the list")
    return unsafe places[index]
  }

  func append(_ member: CompletionQueueMember) {
    if count == capacity {
      let larger = UnsafeMutablePointer<UncountedReference<CompletionQueueMember>>.allocate(
        capacity: 2 * capacity)
      unsafe larger.moveInitialize(from: places, count: count)
      unsafe places.deallocate()
      unsafe places = larger
      capacity *= 2
    }
    unsafe (places + count).initialize(to: UncountedReference(member))
    count += 1
  }

  /// The last one takes the place of the one at `index`.
  func remove(at index: Int) {
    precondition(index >= 0 && index < count, "outside the list")
    count -= 1
    unsafe places[index] = unsafe places[count]
  }

  func remove(_ member: CompletionQueueMember) {
    for index in 0..<count where self[index].refers(to: member) { return remove(at: index) }
  }
}
