import FabricPlatform

/// The memory that one side of a connection owns and the other may only read: its send ring and
/// the words that tell how far it has come with the peer's ring.
///
/// | Offset | Word | Meaning |
/// |---|---|---|
/// | 64 | `consumed` u64 | lines of the peer's ring that the owner has carried out |
/// | 128 | `failure` u32 | status of the peer's record at `consumed`; 0 while none failed |
/// | 192 | `armedForReceives` u32 | odd: ring the doorbell, once for this value, after a record |
/// | 256 | `armedForSends` u32 | odd: the same after `consumed` has moved |
/// | 320 | `readsDone` u64 | RDMA reads whose bytes the owner has fetched |
/// | 384 | `copying` u32 | 1 while the owner writes to the peer's memory, in direct mode |
/// | 4096 | ring | lines of 64 bytes |
@safe
struct QueueSegment {
  static let lineByteCount = 64
  static let ringOffset = 4096

  let consumed: SharedWord64
  let failure: SharedWord32
  let armedForReceives: SharedWord32
  let armedForSends: SharedWord32
  let readsDone: SharedWord64
  let copying: SharedWord32
  let ring: UnsafeMutableRawPointer
  let lineMask: Int

  /// Views a mapped segment whose size fits `lineCount`, a power of two.
  init(_ mapping: Mapping, lineCount: Int) {
    precondition(mapping.byteCount >= Self.byteCount(lineCount: lineCount))
    let base = unsafe mapping.bytes.baseAddress!
    unsafe consumed = SharedWord64(at: base + 64)
    unsafe failure = SharedWord32(at: base + 128)
    unsafe armedForReceives = SharedWord32(at: base + 192)
    unsafe armedForSends = SharedWord32(at: base + 256)
    unsafe readsDone = SharedWord64(at: base + 320)
    unsafe copying = SharedWord32(at: base + 384)
    unsafe ring = base + Self.ringOffset
    lineMask = lineCount - 1
  }

  static func byteCount(lineCount: Int) -> Int {
    wholePages(ringOffset + lineCount * lineByteCount)
  }

  /// The line at a position that counts lines since the connection began.
  @inline(__always)
  func line(_ position: UInt64) -> UnsafeMutableRawPointer {
    unsafe ring + (Int(truncatingIfNeeded: position) & lineMask) * Self.lineByteCount
  }
}
