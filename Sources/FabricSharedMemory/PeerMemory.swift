import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// The memory of one peer that this process has mapped: read-only, but for what a direct peer
/// shares to be written to.
///
/// A segment lies at the owner's own address when that is free here, so that a pointer means the
/// same on both sides; else elsewhere, and addresses are translated. (SM-2)
///
/// Threads: added to and looked up under the connection's lock of remote work.
struct PeerMemory {
  private struct Segment {
    let address: UInt64
    let byteCount: UInt64
    let mapping: Mapping
    let isWritable: Bool
  }

  /// Segments that one peer may have; enough for pools of every kind, and a bound on what a
  /// hostile peer makes us map. (SM-3)
  static let limit = 1024
  /// Bytes that they may have together, so that no peer uses up this process's address space.
  static let byteLimit: UInt64 = 1 << 40
  /// Where owners place their memory. A peer chooses no other addresses in this process: not the
  /// first page, and not where the stack or the heap would grow.
  #if SANITIZED_THREADS
    // The thread sanitizer keeps its own memory nearly everywhere, but not here.
    static let addresses: Range<UInt64> = 0x5500 << 32..<0x5680 << 32
  #else
    static let addresses: Range<UInt64> = 0x1000 << 32..<0x6000 << 32
  #endif

  private var segments: [Segment] = []
  /// A direct peer's own keys.
  private var keys: RemoteKeyTable?
  private var byteCount: UInt64 = 0

  /// Maps what the peer announced.
  ///
  /// - Throws: when it announces more than `limit`, or what cannot be mapped safely.
  mutating func add(
    _ descriptor: consuming Descriptor, address: UInt64, byteCount: UInt64,
    use: ControlMessage.SegmentUse
  ) throws(Errno) {
    guard segments.count < Self.limit, byteCount > 0, byteCount <= Self.byteLimit,
      self.byteCount + byteCount <= Self.byteLimit,
      !address.addingReportingOverflow(byteCount).overflow
    else { throw Errno.invalidArgument }
    let file = try MemoryFile(received: descriptor, byteCount: Int(byteCount))
    if use == .keys {
      guard keys == nil, byteCount >= UInt64(RemoteKeyTable.byteCount) else {
        throw Errno.invalidArgument
      }
      keys = RemoteKeyTable(in: try file.map(.read))
      return
    }
    let mapping = try Self.map(file, use == .writable ? .readWrite : .read, near: address)
    segments.append(
      Segment(
        address: address, byteCount: byteCount, mapping: mapping, isWritable: use == .writable))
    self.byteCount += byteCount
  }

  /// Maps a peer's file at the owner's address, or, where that is taken or no place for it,
  /// elsewhere.
  static func map(
    _ file: borrowing MemoryFile, _ access: Mapping.Access, near address: UInt64
  ) throws(Errno) -> Mapping {
    if addresses.contains(address), UInt64(file.byteCount) <= addresses.upperBound - address {
      do { return try file.map(access, at: address) } catch {}
    }
    return try file.map(access)
  }

  mutating func remove(address: UInt64) {
    segments.removeAll { $0.address == address }
    byteCount = segments.reduce(0) { $0 + $1.byteCount }
  }

  /// Where `byteCount` bytes at the peer's `address` are readable here; nil when the peer did not
  /// share all of them.
  func translate(_ address: UInt64, _ byteCount: UInt32) -> UInt64? {
    // Not `for in`, whose iterator allocates where the optimiser is off.
    var index = 0
    while index < segments.count {
      let segment = segments[index]
      index &+= 1
      let offset = address &- segment.address
      if offset < segment.byteCount && UInt64(byteCount) <= segment.byteCount &- offset {
        return segment.mapping.address &+ offset
      }
    }
    return nil
  }

  /// Where this side may write what a key of a direct peer opens; nil when it may not, whatever
  /// the reason: the peer then says why.
  func writablePlace(
    _ address: UInt64, _ byteCount: UInt64, key: RemoteKey, queuePairNumber: UInt32
  ) -> UInt64? {
    guard let record = keys?.record(for: key), record.access.contains(.remoteWrite),
      record.queuePairNumber == 0 || record.queuePairNumber == queuePairNumber,
      record.covers(address, byteCount)
    else { return nil }
    for segment in segments where segment.isWritable {
      let offset = address &- segment.address
      if offset < segment.byteCount && byteCount <= segment.byteCount &- offset {
        return segment.mapping.address &+ offset
      }
    }
    return nil
  }
}
