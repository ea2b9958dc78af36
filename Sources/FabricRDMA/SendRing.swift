import CFabricVerbs
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
    var flags: SendFlags
    var elementCount: UInt8
  }

  /// Where requests are remembered, by number.
  @safe
  struct Places: BitwiseCopyable {
    fileprivate let entries: UnsafeMutablePointer<Entry>
    /// Two for each entry: what the library is shown, and where to look when a request has failed.
    fileprivate let elements: UnsafeMutablePointer<ibv_sge>
    fileprivate let mask: Int

    @inline(__always)
    fileprivate func index(_ number: UInt64) -> Int { Int(truncatingIfNeeded: number) & mask }

    /// Notes request `number` and its elements, of `byteCount` bytes; returns where the library finds
    /// these.
    @inline(__always)
    func note(
      _ number: UInt64, _ request: UnsafePointer<SendRequest>, byteCount: Int
    ) -> UnsafeMutablePointer<ibv_sge> {
      let index = index(number)
      let count = unsafe request.pointee.elements.count
      unsafe (entries + index).initialize(
        to: Entry(
          id: request.pointee.id, byteCount: UInt32(truncatingIfNeeded: byteCount),
          opcode: request.pointee.opcode, flags: request.pointee.flags,
          elementCount: UInt8(truncatingIfNeeded: count)))
      let place = unsafe elements + 2 &* index
      unsafe place.initialize(to: request.pointee.elements.first.verbs)
      if count > 1 {
        unsafe (place + 1).initialize(to: request.pointee.elements.second.verbs)
      }
      return unsafe place
    }

    @inline(__always)
    func entry(_ number: UInt64) -> Entry { unsafe entries[index(number)] }

    /// Where the bytes of request `number` lie, unless they went with it; to find out why it failed.
    func memory(_ number: UInt64) -> ScatterGatherList {
      let entry = entry(number)
      if entry.flags.contains(.inline) || entry.elementCount == 0 { return ScatterGatherList() }
      let place = unsafe elements + 2 &* index(number)
      let first = unsafe ScatterGatherElement(place[0])
      guard entry.elementCount > 1 else { return ScatterGatherList(first) }
      return unsafe ScatterGatherList(first, ScatterGatherElement(place[1]))
    }
  }

  let capacity: Int
  /// Every so many requests a completion is asked for, wanted or not, so that the ring never fills
  /// with requests of which nothing is heard.
  let interval: Int
  let places: Places
  private let posted = Atomic<UInt64>(0)
  private let retired = Atomic<UInt64>(0)
  /// Posted behind the last one with a completion: nothing will be heard of these for now. The
  /// posting thread's.
  @exclusivity(unchecked) var quiet = 0

  init(capacity: Int) {
    self.capacity = capacity
    interval = max(1, capacity / 4)
    var slots = 1
    while slots < capacity + interval { slots *= 2 }
    places = unsafe Places(
      entries: .allocate(capacity: slots), elements: .allocate(capacity: 2 * slots),
      mask: slots - 1)
    unsafe places.elements.initialize(repeating: ibv_sge(), count: 2 * slots)
  }

  deinit {
    unsafe places.entries.deallocate()
    unsafe places.elements.deallocate()
  }

  /// Requests that the device must have room for: those of which nothing is heard take none of
  /// `capacity`.
  var deviceCapacity: Int { capacity + interval }

  /// Posted, and not known to have ended.
  @inline(__always)
  var count: Int {
    Int(truncatingIfNeeded: posted.load(ordering: .acquiring) &- retired.load(ordering: .acquiring))
  }

  /// Requests that may be posted now.
  @inline(__always)
  var room: Int { unsafe min(capacity, capacity &+ quiet &- count) }

  /// The number of the next request.
  @inline(__always)
  var next: UInt64 { posted.load(ordering: .acquiring) }
  /// The number of the oldest request that has not ended.
  var oldest: UInt64 { retired.load(ordering: .relaxed) }

  /// `count` noted requests were posted; before the device can end any.
  @inline(__always)
  func advance(_ count: Int) {
    posted.store(posted.load(ordering: .relaxed) &+ UInt64(count), ordering: .releasing)
  }

  /// `count` of those were not taken after all.
  func takeBack(_ count: Int) {
    posted.store(posted.load(ordering: .relaxed) &- UInt64(count), ordering: .releasing)
  }

  /// Request `number` has ended, and with it all before; returns how many that are.
  @inline(__always)
  func end(_ number: UInt64) -> Int {
    let before = retired.load(ordering: .relaxed)
    retired.store(number &+ 1, ordering: .releasing)
    return Int(truncatingIfNeeded: number &+ 1 &- before)
  }
}

extension ScatterGatherElement {
  @inline(__always)
  var verbs: ibv_sge { ibv_sge(addr: address, length: byteCount, lkey: localKey.rawValue) }

  fileprivate init(_ element: ibv_sge) {
    self.init(
      address: element.addr, byteCount: element.length,
      localKey: LocalKey(rawValue: element.lkey))
  }
}
