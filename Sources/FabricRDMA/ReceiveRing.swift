import FabricVerbs
import Synchronization

/// What the receive queue remembers of its requests.
///
/// Threads: one posts, one polls.
@safe
final class ReceiveRing {
  let capacity: Int
  private let mask: Int
  private let ids: UnsafeMutablePointer<UInt64>
  private let posted = Atomic<UInt64>(0)
  private let taken = Atomic<UInt64>(0)

  init(capacity: Int) {
    self.capacity = capacity
    var slots = 1
    while slots < capacity { slots *= 2 }
    mask = slots - 1
    unsafe ids = .allocate(capacity: slots)
  }

  deinit { unsafe ids.deallocate() }

  var count: Int {
    Int(truncatingIfNeeded: posted.load(ordering: .acquiring) &- taken.load(ordering: .acquiring))
  }
  var room: Int { capacity &- count }
  var next: UInt64 { posted.load(ordering: .acquiring) }
  var oldest: UInt64 { taken.load(ordering: .relaxed) }

  func note(_ number: UInt64, _ request: ReceiveRequest) {
    unsafe ids[Int(truncatingIfNeeded: number) & mask] = request.id
  }

  func advance(_ count: Int) {
    posted.store(posted.load(ordering: .relaxed) &+ UInt64(count), ordering: .releasing)
  }

  func takeBack(_ count: Int) {
    posted.store(posted.load(ordering: .relaxed) &- UInt64(count), ordering: .releasing)
  }

  /// The own name of request `number`.
  @inline(__always)
  func id(_ number: UInt64) -> UInt64 { unsafe ids[Int(truncatingIfNeeded: number) & mask] }

  /// The oldest `count` have ended.
  @inline(__always)
  func end(_ count: Int) {
    taken.store(taken.load(ordering: .relaxed) &+ UInt64(count), ordering: .releasing)
  }
}
