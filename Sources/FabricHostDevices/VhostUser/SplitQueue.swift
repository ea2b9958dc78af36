import FabricBounded
import FabricPlatform
import Synchronization

/// Why a queue is of no use until the front end starts it again: its driver broke virtio's rules.
enum QueueFault: Error, Equatable, CustomStringConvertible {
  case availableIndex(UInt16)
  case head(UInt16)
  case headInUse(UInt16)
  case chainLoops
  case chainTooLong
  case next(UInt16)
  case indirectTable
  case address(UInt64)
  case order

  var description: String {
    switch self {
    case .availableIndex(let index): "its available index \(index) tells of more than it holds"
    case .head(let head): "descriptor \(head) is none of it"
    case .headInUse(let head): "descriptor \(head) was made available while it was under way"
    case .chainLoops: "a chain of descriptors has no end"
    case .chainTooLong: "a chain has more than \(DescriptorChain.limit) pieces"
    case .next(let index): "a chain goes on at descriptor \(index), which is none of it"
    case .indirectTable: "a table of indirect descriptors makes no sense"
    case .address(let address):
      "a descriptor's address \(String(address, radix: 16)) is not the guest's memory"
    case .order: "a chain has something to be read behind something to be written"
    }
  }
}

/// A split virtqueue (virtio 1.2, 2.7) over the guest's memory, the device's side. Nothing that the guest
/// can change is looked at twice. Allocates nothing once it is made. (VU-30 to VU-36)
@safe
final class SplitQueue {
  let size: Int
  private let mask: UInt16
  private let hasEventIndex: Bool
  let hasIndirect: Bool
  let descriptors: UnsafeMutableRawPointer
  private let available: UnsafeMutableRawPointer
  private let used: UnsafeMutableRawPointer
  private let inflight: InflightQueue?
  /// Whether each head is under way.
  private let isTaken: FixedTable<Bool>
  /// Heads whose end the used ring holds and its index does not tell of.
  private let batch: FixedTable<UInt16>
  private var batchCount = 0
  /// Heads that an earlier back end left, to be taken first.
  private var left: [Int] = []
  private var leftIndex = 0
  private var turn: UInt64 = 0
  /// The next to be taken from the available ring.
  private(set) var availableIndex: UInt16
  private var usedIndex: UInt16
  private(set) var takenCount = 0
  /// The driver is to be called whatever it says: calls may have been lost before.
  private var owesCall = true
  private var asksForKicks = true

  static func descriptorByteCount(_ size: Int) -> Int { size * 16 }
  static func availableByteCount(_ size: Int) -> Int { 6 + 2 * size }
  static func usedByteCount(_ size: Int) -> Int { 6 + 8 * size }

  /// - Parameters:
  ///   - base: where to go on in the available ring, when nothing was left under way.
  ///   - memory: keeps the bytes; it must outlive the queue.
  /// - Throws: `.memory` when a part is not where it can be used.
  init(
    size: Int, addresses: QueueAddresses, base: UInt16, features: DeviceFeatures,
    memory: GuestMemory, inflight: InflightQueue? = nil
  ) throws(VhostUserFault) {
    precondition(size >= 1 && size <= VhostUser.queueSizeLimit && size & (size - 1) == 0)
    self.size = size
    mask = UInt16(truncatingIfNeeded: size - 1)
    hasEventIndex = features.contains(.eventIndex)
    hasIndirect = features.contains(.indirectDescriptors)
    unsafe descriptors = try Self.part(
      addresses.descriptors, Self.descriptorByteCount(size), alignment: 16, memory)
    unsafe available = try Self.part(
      addresses.available, Self.availableByteCount(size), alignment: 2, memory)
    unsafe used = try Self.part(addresses.used, Self.usedByteCount(size), alignment: 4, memory)
    self.inflight = inflight
    isTaken = FixedTable(repeating: false, count: size)
    batch = FixedTable(repeating: 0, count: size)
    usedIndex = unsafe SharedWord16(at: used + 2).loadAcquiring()
    availableIndex = base
    guard let inflight else { return }
    guard let heads = inflight.recover(usedIndex: usedIndex) else { return }
    left = heads
    turn = inflight.latestTurn(of: heads)
    // What was taken has been used or is under way still. (VU-53)
    availableIndex = usedIndex &+ UInt16(truncatingIfNeeded: heads.count)
  }

  @unsafe
  private static func part(
    _ address: UInt64, _ byteCount: Int, alignment: UInt64, _ memory: GuestMemory
  ) throws(VhostUserFault) -> UnsafeMutableRawPointer {
    guard let place = memory.address(ofUser: address, byteCount), place % alignment == 0,
      let pointer = unsafe UnsafeMutableRawPointer(bitPattern: UInt(place))
    else {
      throw .memory(
        "expected a queue in the guest's memory, got \(byteCount) bytes at "
          + String(address, radix: 16))
    }
    return unsafe pointer
  }

  // MARK: What the driver has made available

  private var driverIndex: SharedWord16 { unsafe SharedWord16(at: available + 2) }

  /// Whether there is something to be taken. No more than a look at memory.
  @inline(__always)
  var hasAvailable: Bool {
    leftIndex < left.count || driverIndex.load() != availableIndex
  }

  /// Takes the head of the next chain, which is under way from now on; nil when there is none. (VU-31)
  func take() throws(QueueFault) -> Int? {
    if leftIndex < left.count {
      let head = left[leftIndex]
      leftIndex &+= 1
      isTaken[head] = true
      takenCount &+= 1
      return head
    }
    // Pairs with the driver's release: the ring's entry and the descriptors are there.
    let index = driverIndex.loadAcquiring()
    let count = index &- availableIndex
    if count == 0 { return nil }
    guard Int(count) <= size else { throw .availableIndex(index) }
    let offset = 4 &+ 2 &* Int(availableIndex & mask)
    let head = unsafe SharedWord16(at: available + offset).load()
    guard Int(head) < size else { throw .head(head) }
    guard !isTaken[Int(head)] else { throw .headInUse(head) }
    availableIndex &+= 1
    isTaken[Int(head)] = true
    takenCount &+= 1
    turn &+= 1
    inflight?.begin(Int(head), turn: turn)
    return Int(head)
  }

  // MARK: What is given back

  /// Writes a chain's end to the used ring; `publish` tells the driver. (VU-33)
  func give(_ head: Int, byteCount: UInt32) {
    precondition(isTaken[head], "not under way")
    isTaken[head] = false
    takenCount &-= 1
    let index = usedIndex &+ UInt16(truncatingIfNeeded: batchCount)
    let place = unsafe used + 4 + 8 &* Int(index & mask)
    unsafe SharedWord32(at: place).store(UInt32(truncatingIfNeeded: head))
    unsafe SharedWord32(at: place + 4).store(byteCount)
    inflight?.addToBatch(head)
    batch[batchCount] = UInt16(truncatingIfNeeded: head)
    batchCount &+= 1
  }

  var hasBatch: Bool { batchCount > 0 }

  /// Tells the driver of what was given back. True when it wants to be called. (VU-34)
  func publish() -> Bool {
    guard batchCount > 0 else { return false }
    let old = usedIndex
    usedIndex = old &+ UInt16(truncatingIfNeeded: batchCount)
    // What was written to the ring and to the buffers comes first.
    unsafe SharedWord16(at: used + 2).storeReleasing(usedIndex)
    if let inflight {
      for place in 0..<batchCount { inflight.endMember(Int(batch[place])) }
      inflight.endBatch(usedIndex: usedIndex)
    }
    batchCount = 0
    // Either the driver sees the index, or this side sees that it wants to be called.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
    if owesCall {
      owesCall = false
      return true
    }
    if hasEventIndex {
      let event = unsafe SharedWord16(at: available + 4 + 2 &* size).load()
      return usedIndex &- event &- 1 < usedIndex &- old
    }
    return unsafe SharedWord16(at: available).load() & 1 == 0
  }

  // MARK: Kicks

  /// Asks the driver to kick when it makes something available; what it made before must be looked at
  /// again. (VU-35)
  func askForKicks() {
    asksForKicks = true
    if hasEventIndex {
      unsafe SharedWord16(at: used + 4 + 8 &* size).store(availableIndex)
    } else {
      unsafe SharedWord16(at: used).store(0)
    }
    // Pairs with the driver's fence between its index and its look at this.
    atomicMemoryFence(ordering: .sequentiallyConsistent)
  }

  /// The driver need not kick: the ring is looked at.
  func spareKicks() {
    guard asksForKicks else { return }
    asksForKicks = false
    // With an event index what was asked for last lies behind, and is not asked for again.
    if !hasEventIndex { unsafe SharedWord16(at: used).store(1) }
  }
}
