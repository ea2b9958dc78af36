import FabricBounded

/// How many messages this side may still send. (MS-5)
///
/// Both counters are cumulative and wrap: a repeated or late update does no harm.
///
/// A class, as those below: what every message changes costs no check of
/// exclusive access.
final class SendCredit {
  /// Kept back for messages that return credit, beat or close.
  static let reserve: UInt32 = 2

  /// Receives that the peer has posted in all, as it last said.
  private(set) var granted: UInt32
  private(set) var consumed: UInt32 = 0
  private var window: UInt32

  init(initial: UInt32) {
    granted = initial
    window = initial
  }

  /// Begins with the peer's window; what was sent before counts.
  func open(window: UInt32) {
    self.window = window
    granted = window
  }

  var available: UInt32 { granted &- consumed }
  @inline(__always) var hasUserCredit: Bool { available > Self.reserve }
  var hasAnyCredit: Bool { available > 0 }

  @inline(__always)
  func consume() { consumed &+= 1 }

  /// Takes the peer's counter; false when it claims more than its window holds, which no honest
  /// peer does.
  @inline(__always)
  func update(_ reposted: UInt32) -> Bool {
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
final class PeerBuffers {
  let address: UInt64
  let byteCount: Int
  let stride: UInt64
  let count: Int
  private let free: IndexPool
  private let isLent: FixedTable<Bool>

  init(count: Int, address: UInt64, byteCount: Int) {
    self.address = address
    self.byteCount = byteCount
    self.count = count
    stride = UInt64(ChannelMemory.headroomByteCount + byteCount)
    free = IndexPool(capacity: count)
    isLent = FixedTable(repeating: false, count: count)
  }

  func take() -> UInt16? {
    guard let id = free.take() else { return nil }
    isLent[id] = true
    return UInt16(truncatingIfNeeded: id)
  }

  /// False when the peer returns what it does not have.
  func comeBack(_ id: UInt16) -> Bool {
    guard Int(id) < count, isLent[Int(id)] else { return false }
    isLent[Int(id)] = false
    free.give(Int(id))
    return true
  }

  func dataAddress(_ id: UInt16) -> UInt64 {
    address &+ UInt64(id) &* stride &+ UInt64(ChannelMemory.headroomByteCount)
  }
}

/// This side's advertised buffers: whose each is.
final class OwnBuffers {
  private enum Owner: BitwiseCopyable {
    /// Free, and told so.
    case peer
    /// Holds the peer's data.
    case user
    /// Given back by the user, not yet told to the peer: a stale id.
    case nobody
  }

  let count: Int
  private let owners: FixedTable<Owner>
  private let untold: FixedTable<UInt16>
  /// Buffers given back by the user and not yet told to the peer.
  private(set) var untoldCount = 0

  init(count: Int) {
    self.count = count
    owners = FixedTable(repeating: .peer, count: count)
    untold = FixedTable(repeating: 0, count: count)
  }

  /// False for a buffer that does not exist or that the peer does not own now: a stale id.
  func hold(_ id: UInt16) -> Bool {
    guard Int(id) < count, owners[Int(id)] == .peer else { return false }
    owners[Int(id)] = .user
    return true
  }

  /// Traps when the buffer is not held.
  func giveBack(_ id: UInt16) {
    precondition(Int(id) < count && owners[Int(id)] == .user, "the buffer is not held")
    owners[Int(id)] = .nobody
    untold[untoldCount] = id
    untoldCount &+= 1
  }

  /// The next to be told, which is the peer's from now on.
  @inline(__always)
  func takeUntold() -> UInt16? {
    if untoldCount == 0 { return nil }
    untoldCount &-= 1
    let id = untold[untoldCount]
    owners[Int(id)] = .peer
    return id
  }
}
