import FabricVerbs
import Synchronization

/// What the send queue remembers of its requests, by number since the beginning. Requests that no
/// completion was asked for end with a later one that has one.
///
/// Threads: one posts, one polls.
@safe
final class SendRing {
  struct Entry: BitwiseCopyable {
    var id: UInt64
    var byteCount: UInt32
    var opcode: SendOpcode
    /// The user asked for a completion.
    var isSignaled: Bool
    /// To find out why it failed.
    var elements: ScatterGatherList
  }

  let capacity: Int
  /// Every so many requests a completion is asked for, wanted or not, so that the ring never fills
  /// with requests of which nothing is heard.
  private let interval: Int
  private let mask: Int
  private let entries: UnsafeMutablePointer<Entry>
  private let posted = Atomic<UInt64>(0)
  private let retired = Atomic<UInt64>(0)
  /// Posted behind the last one with a completion: nothing will be heard of these for now.
  private let quiet = Atomic<Int>(0)

  init(capacity: Int) {
    self.capacity = capacity
    interval = max(1, capacity / 4)
    var slots = 1
    while slots < capacity + interval { slots *= 2 }
    mask = slots - 1
    unsafe entries = .allocate(capacity: slots)
  }

  deinit { unsafe entries.deallocate() }

  /// Requests that the device must have room for: those of which nothing is heard take none of
  /// `capacity`.
  var deviceCapacity: Int { capacity + interval }

  /// Posted, and not known to have ended.
  var count: Int {
    Int(truncatingIfNeeded: posted.load(ordering: .acquiring) &- retired.load(ordering: .acquiring))
  }

  /// Requests that may be posted now.
  var room: Int { min(capacity, capacity &+ quiet.load(ordering: .relaxed) &- count) }

  /// The number of the next request.
  var next: UInt64 { posted.load(ordering: .acquiring) }
  /// The number of the oldest request that has not ended.
  var oldest: UInt64 { retired.load(ordering: .relaxed) }

  /// Notes request `number`; returns whether a completion must be asked for.
  func note(_ number: UInt64, _ request: SendRequest) -> Bool {
    let isSignaled = request.flags.contains(.signaled)
    unsafe entries[Int(truncatingIfNeeded: number) & mask] = Entry(
      id: request.id, byteCount: UInt32(truncatingIfNeeded: request.elements.byteCount),
      opcode: request.opcode, isSignaled: isSignaled,
      elements: request.flags.contains(.inline) ? ScatterGatherList() : request.elements)
    let isLoud = isSignaled || quiet.load(ordering: .relaxed) &+ 1 >= interval
    quiet.store(isLoud ? 0 : quiet.load(ordering: .relaxed) &+ 1, ordering: .relaxed)
    return isLoud
  }

  /// `count` noted requests were posted; before the device can end any.
  func advance(_ count: Int) {
    posted.store(posted.load(ordering: .relaxed) &+ UInt64(count), ordering: .releasing)
  }

  /// `count` of those were not taken after all.
  func takeBack(_ count: Int) {
    posted.store(posted.load(ordering: .relaxed) &- UInt64(count), ordering: .releasing)
  }

  /// Request `number` has ended, and with it all before; returns it, and how many that are.
  func end(_ number: UInt64) -> (entry: Entry, count: Int) {
    let before = retired.load(ordering: .relaxed)
    let entry = unsafe entries[Int(truncatingIfNeeded: number) & mask]
    retired.store(number &+ 1, ordering: .releasing)
    return (entry, Int(truncatingIfNeeded: number &+ 1 &- before))
  }
}

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

  /// The request's own name; it has ended.
  func end(_ number: UInt64) -> UInt64 {
    let id = unsafe ids[Int(truncatingIfNeeded: number) & mask]
    taken.store(taken.load(ordering: .relaxed) &+ 1, ordering: .releasing)
    return id
  }
}

/// Where in a ring the requests begin that the device never got, because the queue pair had failed.
///
/// Threads: one posts, one polls.
final class LateRequests: Sendable {
  private let first = Atomic<UInt64>(.max)

  /// They begin with request `number`, unless some came before.
  func begin(at number: UInt64) {
    if first.load(ordering: .relaxed) == .max { first.store(number, ordering: .releasing) }
  }

  /// Whether request `number` is one of them.
  func contains(_ number: UInt64) -> Bool { number >= first.load(ordering: .acquiring) }
}
