/// How many messages this side may still send. (MS-5)
///
/// Both counters are cumulative and wrap: a repeated or late update does no harm.
struct SendCredit {
  /// Kept back for messages that return credit, beat or close.
  static let reserve: UInt32 = 2

  /// Receives that the peer has posted in all, as it last said.
  private(set) var granted: UInt32
  private(set) var consumed: UInt32 = 0
  private let window: UInt32

  init(initial: UInt32) {
    granted = initial
    window = initial
  }

  var available: UInt32 { granted &- consumed }
  @inline(__always) var hasUserCredit: Bool { available > Self.reserve }
  var hasAnyCredit: Bool { available > 0 }

  @inline(__always)
  mutating func consume() { consumed &+= 1 }

  /// Takes the peer's counter; false when it claims more than its window holds, which no honest
  /// peer does.
  @inline(__always)
  mutating func update(_ reposted: UInt32) -> Bool {
    let next = reposted &+ window
    let advance = next &- granted
    if advance == 0 { return true }
    // A counter from the past (of a message overtaken by none, but repeated) changes nothing.
    if advance > UInt32.max / 2 { return true }
    guard next &- consumed <= window else { return false }
    granted = next
    return true
  }
}

/// The peer's advertised buffers that are free to write into. (MS-6)
struct PeerBuffers {
  let address: UInt64
  let byteCount: Int
  let stride: UInt64
  private var free: [UInt16]
  private var isLent: [Bool]

  init(count: Int, address: UInt64, byteCount: Int) {
    self.address = address
    self.byteCount = byteCount
    stride = UInt64(ChannelMemory.headroomByteCount + byteCount)
    free = (0..<count).reversed().map { UInt16($0) }
    isLent = Array(repeating: false, count: count)
  }

  var hasFree: Bool { !free.isEmpty }

  mutating func take() -> UInt16? {
    guard let id = free.popLast() else { return nil }
    isLent[Int(id)] = true
    return id
  }

  /// False when the peer returns what it does not have.
  mutating func comeBack(_ id: UInt16) -> Bool {
    guard Int(id) < isLent.count, isLent[Int(id)] else { return false }
    isLent[Int(id)] = false
    free.append(id)
    return true
  }

  func dataAddress(_ id: UInt16) -> UInt64 {
    address &+ UInt64(id) &* stride &+ UInt64(ChannelMemory.headroomByteCount)
  }
}

/// This side's advertised buffers that hold the peer's data.
struct OwnBuffers {
  private var isHeld: [Bool]
  /// Given back by the user, not yet told to the peer.
  private(set) var untold: [UInt16] = []

  init(count: Int) {
    isHeld = Array(repeating: false, count: count)
    untold.reserveCapacity(count)
  }

  var count: Int { isHeld.count }

  /// False for a buffer that does not exist or that the peer does not own now: a stale id.
  mutating func hold(_ id: UInt16) -> Bool {
    guard Int(id) < isHeld.count, !isHeld[Int(id)] else { return false }
    isHeld[Int(id)] = true
    return true
  }

  /// Traps when the buffer is not held.
  mutating func giveBack(_ id: UInt16) {
    precondition(Int(id) < isHeld.count && isHeld[Int(id)], "the buffer is not held")
    isHeld[Int(id)] = false
    untold.append(id)
  }

  @inline(__always)
  mutating func takeUntold() -> UInt16? { untold.popLast() }
}
