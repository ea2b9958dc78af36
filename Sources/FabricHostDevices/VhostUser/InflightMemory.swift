import FabricPlatform

/// Memory that outlives the back end's process: what of a queue is under way. The front end keeps it
/// while nobody serves, and gives it to the next one. (VU-50 to VU-54)
final class InflightMemory {
  let mapping: Mapping
  let queueSize: Int
  let queueCount: Int

  /// Bytes that `queueCount` queues of `queueSize` entries need.
  static func byteCount(queueCount: Int, queueSize: Int) -> Int {
    wholePages(queueCount * InflightQueue.byteCount(queueSize))
  }

  /// - Parameter mapping: of as many bytes.
  init(_ mapping: Mapping, queueCount: Int, queueSize: Int) {
    precondition(
      mapping.byteCount >= Self.byteCount(queueCount: queueCount, queueSize: queueSize),
      "the mapping is too short")
    self.mapping = mapping
    self.queueCount = queueCount
    self.queueSize = queueSize
  }

  /// Takes what a front end gives back.
  static func map(
    _ description: InflightDescription, of file: PassedDescriptor
  ) throws(VhostUserFault) -> InflightMemory {
    let needed = byteCount(
      queueCount: Int(description.queueCount), queueSize: Int(description.queueSize))
    guard description.byteCount == UInt64(needed), file.isSealedMemory,
      file.fileByteCount == UInt64(needed)
    else { throw .memory("expected the inflight memory that this back end made, got another") }
    do {
      let mapping = try Mapping.shared(file.descriptor, byteCount: needed, access: .readWrite)
      return InflightMemory(
        mapping, queueCount: Int(description.queueCount), queueSize: Int(description.queueSize))
    } catch { throw .memory("mapping the inflight memory failed: \(error)") }
  }

  /// One queue's part; nil where the queue is larger than what there is room for.
  func queue(_ index: Int, size: Int) -> InflightQueue? {
    guard index < queueCount, size <= queueSize else { return nil }
    let stride = InflightQueue.byteCount(queueSize)
    return unsafe InflightQueue(
      mapping.bytes.baseAddress! + index * stride, size: size, capacity: queueSize, owner: mapping)
  }
}

/// What of one queue is under way. The protocol gives the layout: features, version, number of entries,
/// head of the last batch, used index; then of each descriptor whether it is under way, the next of the batch,
/// and its turn.
@safe
struct InflightQueue {
  private let base: UnsafeMutableRawPointer
  let size: Int
  private let owner: Mapping

  private static let headByteCount = 16
  private static let entryByteCount = 16
  static let version: UInt16 = 1

  static func byteCount(_ queueSize: Int) -> Int {
    (headByteCount + queueSize * entryByteCount + 63) / 64 * 64
  }

  @unsafe
  init(_ base: UnsafeMutableRawPointer, size: Int, capacity: Int, owner: Mapping) {
    precondition(size <= capacity, "larger than the memory")
    unsafe self.base = base
    self.size = size
    self.owner = owner
  }

  private func word16(_ offset: Int) -> SharedWord16 { unsafe SharedWord16(at: base + offset) }
  private func entry(_ head: Int) -> Int {
    precondition(head >= 0 && head < size, "outside the queue")
    return Self.headByteCount + head * Self.entryByteCount
  }

  private var knownVersion: SharedWord16 { word16(8) }
  private var entryCount: SharedWord16 { word16(10) }
  private var batchHead: SharedWord16 { word16(12) }
  private var usedIndex: SharedWord16 { word16(14) }

  /// The byte that says so is the lowest of a word, whose others are padding.
  private func flag(_ head: Int) -> SharedWord16 { word16(entry(head)) }
  private func next(_ head: Int) -> SharedWord16 { word16(entry(head) + 6) }
  private func counter(_ head: Int) -> SharedWord64 {
    unsafe SharedWord64(at: base + entry(head) + 8)
  }

  /// A request was taken from the available ring.
  func begin(_ head: Int, turn: UInt64) {
    counter(head).store(turn)
    // What follows a crash must not see the flag without the turn.
    flag(head).storeReleasing(1)
  }

  /// A request's end was written to the used ring, whose index does not tell of it yet.
  func addToBatch(_ head: Int) {
    next(head).store(batchHead.load())
    batchHead.storeReleasing(UInt16(truncatingIfNeeded: head))
  }

  /// The used ring's index tells of the batch: its members are under way no more.
  func endMember(_ head: Int) { flag(head).storeReleasing(0) }
  func endBatch(usedIndex index: UInt16) { usedIndex.storeReleasing(index) }

  /// What the last back end left; nil where nobody has served yet, or what is there makes no sense.
  /// Begins anew then. (VU-52)
  ///
  /// - Parameter usedIndex: the used ring's.
  /// - Returns: the heads that are under way, the earliest first.
  func recover(usedIndex index: UInt16) -> [Int]? {
    guard knownVersion.load() == Self.version, Int(entryCount.load()) == size else {
      reset(usedIndex: index)
      return nil
    }
    // The batch that was being ended when the last back end died.
    var left = min(Int(index &- usedIndex.load()), size)
    var head = Int(batchHead.load())
    while left > 0, head < size {
      flag(head).store(0)
      head = Int(next(head).load())
      left -= 1
    }
    usedIndex.storeReleasing(index)
    return (0..<size).filter { flag($0).load() & 0xFF != 0 }
      .map { (turn: counter($0).load(), head: $0) }
      .sorted { ($0.turn, $0.head) < ($1.turn, $1.head) }.map(\.head)
  }

  /// Nothing is under way.
  func reset(usedIndex index: UInt16) {
    for head in 0..<size {
      flag(head).store(0)
      counter(head).store(0)
    }
    batchHead.store(0)
    usedIndex.store(index)
    entryCount.store(UInt16(truncatingIfNeeded: size))
    knownVersion.storeReleasing(Self.version)
  }

  /// The latest turn of what is under way, to go on behind it.
  func latestTurn(of heads: [Int]) -> UInt64 { heads.map { counter($0).load() }.max() ?? 0 }
}
