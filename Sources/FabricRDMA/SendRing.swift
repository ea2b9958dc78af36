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
    var opcode: SendOpcode
    var flags: SendFlags
  }

  /// Where requests are remembered, by number.
  @safe
  struct Places: BitwiseCopyable {
    fileprivate let entries: UnsafeMutablePointer<Entry>
    /// Where the bytes of each lie; nil where nobody will ask.
    fileprivate let memories: UnsafeMutablePointer<ScatterGatherList>?
    fileprivate let mask: Int

    @inline(__always)
    fileprivate func index(_ number: UInt64) -> Int { Int(truncatingIfNeeded: number) & mask }

    @inline(__always)
    func note(_ number: UInt64, _ request: UnsafePointer<SendRequest>) {
      let index = index(number)
      unsafe (entries + index).initialize(
        to: Entry(
          id: request.pointee.id, opcode: request.pointee.opcode, flags: request.pointee.flags))
      if let memories = unsafe memories {
        unsafe (memories + index).initialize(to: request.pointee.elements)
      }
    }

    @inline(__always)
    func entry(_ number: UInt64) -> Entry { unsafe entries[index(number)] }

    /// Where the bytes of request `number` lie, unless they went with it or nobody was to ask.
    func memory(_ number: UInt64) -> ScatterGatherList {
      guard let memories = unsafe memories, !entry(number).flags.contains(.inline) else {
        return ScatterGatherList()
      }
      return unsafe memories[index(number)]
    }
  }

  let capacity: Int
  /// A list with which so many requests would be posted of which nothing is heard ends with a
  /// completion, wanted or not, so that the ring never fills with such requests.
  private let interval: Int
  let places: Places
  private let posted = Atomic<UInt64>(0)
  private let retired = Atomic<UInt64>(0)
  /// The number behind the last list that ended with a completion: of requests from there on nothing
  /// may be heard for now. The posting thread's.
  @exclusivity(unchecked) private var quietStart: UInt64 = 0

  /// - Parameter keepsMemory: for `Places.memory`.
  init(capacity: Int, keepsMemory: Bool) {
    self.capacity = capacity
    interval = max(1, capacity / 4)
    var slots = 1
    while slots < capacity + interval { slots *= 2 }
    places = unsafe Places(
      entries: .allocate(capacity: slots),
      memories: keepsMemory ? .allocate(capacity: slots) : nil, mask: slots - 1)
  }

  deinit {
    unsafe places.entries.deallocate()
    unsafe places.memories?.deallocate()
  }

  /// Requests that the device must have room for: those of which nothing is heard take none of
  /// `capacity`.
  var deviceCapacity: Int { capacity + interval }

  /// Posted, and not known to have ended.
  @inline(__always)
  var count: Int {
    Int(truncatingIfNeeded: posted.load(ordering: .acquiring) &- retired.load(ordering: .acquiring))
  }

  /// Requests that may be posted now. Those of which nothing is heard take no room.
  @inline(__always)
  var room: Int {
    let heard = unsafe quietStart &- retired.load(ordering: .acquiring)
    return min(capacity, capacity &- Int(truncatingIfNeeded: heard))
  }

  /// The number of the next request.
  @inline(__always)
  var next: UInt64 { posted.load(ordering: .acquiring) }
  /// The number of the oldest request that has not ended.
  var oldest: UInt64 { retired.load(ordering: .relaxed) }

  /// Whether a completion has to be asked for with the next `count` requests.
  @inline(__always)
  func isDue(_ count: Int) -> Bool {
    unsafe Int(truncatingIfNeeded: next &- quietStart) &+ count >= interval
  }

  /// `count` noted requests are posted; before the device can end any.
  ///
  /// - Parameter isHeard: the last of them has a completion.
  @inline(__always)
  func advance(_ count: Int, isHeard: Bool) {
    let next = posted.load(ordering: .relaxed) &+ UInt64(truncatingIfNeeded: count)
    posted.store(next, ordering: .releasing)
    if isHeard { unsafe quietStart = next }
  }

  /// `count` of those were not taken after all.
  func takeBack(_ count: Int) {
    let next = posted.load(ordering: .relaxed) &- UInt64(count)
    posted.store(next, ordering: .releasing)
    unsafe quietStart = min(quietStart, next)
  }

  /// All requests before `number` have ended; returns how many of these are news.
  @inline(__always)
  func end(before number: UInt64) -> Int {
    let before = retired.load(ordering: .relaxed)
    retired.store(number, ordering: .releasing)
    return Int(truncatingIfNeeded: number &- before)
  }
}
