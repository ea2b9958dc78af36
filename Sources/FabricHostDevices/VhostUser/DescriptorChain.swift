import FabricBounded
import FabricPlatform

/// The pieces of one request, in this process, read once. Used again for each. (VU-32)
@safe
final class DescriptorChain {
  /// The most pieces of a chain, whoever cut them: descriptors, and borders of regions.
  static let limit = 256
  private static let descriptorByteCount = 16

  /// First what is to be read, then what is to be written.
  let pieces = FixedTable<GuestPiece>(
    repeating: GuestPiece(address: 0, byteCount: 0, region: 0), count: DescriptorChain.limit)
  private(set) var count = 0
  private(set) var readableCount = 0
  /// A copy of a table of indirect descriptors.
  private let table: UnsafeMutableRawPointer

  init() {
    unsafe table = .allocate(
      byteCount: Self.limit * Self.descriptorByteCount, alignment: Self.descriptorByteCount)
  }

  deinit { unsafe table.deallocate() }

  private struct Descriptor {
    var address: UInt64
    var byteCount: UInt32
    var flags: UInt16
    var next: UInt16

    static let hasNext: UInt16 = 1
    static let isWritable: UInt16 = 2
    static let isIndirect: UInt16 = 4

    @inline(__always)
    init(_ first: UInt64, _ second: UInt64) {
      address = UInt64(littleEndian: first)
      let rest = UInt64(littleEndian: second)
      byteCount = UInt32(truncatingIfNeeded: rest)
      flags = UInt16(truncatingIfNeeded: rest >> 32)
      next = UInt16(truncatingIfNeeded: rest >> 48)
    }
  }

  /// Reads the chain that begins with descriptor `head` of `queue`.
  func read(_ head: Int, of queue: SplitQueue, _ memory: GuestMemory) throws(QueueFault) {
    count = 0
    readableCount = 0
    var index = head
    var steps = 0
    while true {
      guard index < queue.size else { throw .next(UInt16(truncatingIfNeeded: index)) }
      guard steps < queue.size else { throw .chainLoops }
      steps &+= 1
      let place = unsafe queue.descriptors + index &* Self.descriptorByteCount
      let descriptor = unsafe Descriptor(
        SharedWord64(at: place).load(), SharedWord64(at: place + 8).load())
      if descriptor.flags & Descriptor.isIndirect != 0 {
        guard queue.hasIndirect, descriptor.flags & Descriptor.hasNext == 0 else {
          throw .indirectTable
        }
        return try readTable(descriptor, memory)
      }
      try add(descriptor, memory)
      if descriptor.flags & Descriptor.hasNext == 0 { return }
      index = Int(descriptor.next)
    }
  }

  private func readTable(_ descriptor: Descriptor, _ memory: GuestMemory) throws(QueueFault) {
    let byteCount = Int(descriptor.byteCount)
    let total = byteCount / Self.descriptorByteCount
    guard total > 0, byteCount % Self.descriptorByteCount == 0 else { throw .indirectTable }
    guard total <= Self.limit else { throw .chainTooLong }
    var copied = 0
    while copied < byteCount {
      let address = descriptor.address &+ UInt64(copied)
      guard let piece = memory.piece(at: address, UInt32(byteCount - copied)) else {
        throw .address(address)
      }
      unsafe GuestCopy.take(
        from: piece.address, to: table + copied, byteCount: Int(piece.byteCount))
      copied += Int(piece.byteCount)
    }
    var index = 0
    var steps = 0
    while true {
      guard index < total else { throw .next(UInt16(truncatingIfNeeded: index)) }
      guard steps < total else { throw .chainLoops }
      steps &+= 1
      let place = unsafe table + index &* Self.descriptorByteCount
      let descriptor = unsafe Descriptor(
        place.load(as: UInt64.self), (place + 8).load(as: UInt64.self))
      guard descriptor.flags & Descriptor.isIndirect == 0 else { throw .indirectTable }
      try add(descriptor, memory)
      if descriptor.flags & Descriptor.hasNext == 0 { return }
      index = Int(descriptor.next)
    }
  }

  private func add(_ descriptor: Descriptor, _ memory: GuestMemory) throws(QueueFault) {
    let isWritable = descriptor.flags & Descriptor.isWritable != 0
    guard isWritable || count == readableCount else { throw .order }
    var address = descriptor.address
    var left = descriptor.byteCount
    while left > 0 {
      guard count < Self.limit else { throw .chainTooLong }
      guard var piece = memory.piece(at: address, left) else { throw .address(address) }
      piece.isWritable = isWritable
      address &+= UInt64(piece.byteCount)
      left &-= piece.byteCount
      pieces[count] = piece
      count &+= 1
    }
    if !isWritable { readableCount = count }
  }

  // MARK: Parts

  /// Bytes to be read, or to be written.
  func byteCount(isWritable: Bool) -> Int {
    var sum = 0
    for index in isWritable ? readableCount..<count : 0..<readableCount {
      sum &+= Int(pieces[index].byteCount)
    }
    return sum
  }

  /// Copies what is to be read, from `offset` on; false when there is less.
  @unsafe
  func copyReadable(from offset: Int, to target: UnsafeMutableRawPointer, byteCount: Int) -> Bool {
    copy(0..<readableCount, from: offset, byteCount: byteCount) { piece, place, count in
      unsafe GuestCopy.take(from: piece, to: target + place, byteCount: count)
    }
  }

  /// Copies to what is to be written, from `offset` on; false when there is less.
  @unsafe
  func copyWritable(to offset: Int, from source: UnsafeRawPointer, byteCount: Int) -> Bool {
    copy(readableCount..<count, from: offset, byteCount: byteCount) { piece, place, count in
      unsafe GuestCopy.put(source + place, to: piece, byteCount: count)
    }
  }

  @inline(__always)
  private func copy(
    _ range: Range<Int>, from offset: Int, byteCount: Int,
    _ body: (_ piece: UInt64, _ place: Int, _ count: Int) -> Void
  ) -> Bool {
    var skip = offset
    var done = 0
    for index in range {
      if done == byteCount { return true }
      let piece = pieces[index]
      let size = Int(piece.byteCount)
      if skip >= size {
        skip -= size
        continue
      }
      let count = min(size - skip, byteCount - done)
      body(piece.address + UInt64(skip), done, count)
      done += count
      skip = 0
    }
    return done == byteCount
  }

  /// Where the last byte that may be written lies, and nothing else is; nil when none may be.
  var lastWritableByte: UInt64? {
    guard count > readableCount else { return nil }
    let piece = pieces[count - 1]
    return piece.address + UInt64(piece.byteCount) - 1
  }
}
