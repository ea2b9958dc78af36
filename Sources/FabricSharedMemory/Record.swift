import FabricPlatform
import FabricVerbs

/// A work request as it lies in the ring: 1 to 4 lines of 64 bytes.
///
/// | Offset | Send | Write, read |
/// |---|---|---|
/// | 0 | `word`, stored last: it publishes the record | the same |
/// | 4 | immediate u32 | immediate u32 |
/// | 8 | inline bytes, or as for a write | bytes in all u32, remote key u32 |
/// | 16 | | remote address u64 |
/// | 24 | | inline bytes, or first element: address u64, bytes u32 |
/// | 36 | | second element: bytes u32, address u64 |
///
/// `word`: bits 0-7 the kind, bit 8 set when the bytes lie inline, bit 9 set when a direct initiator
/// has written them to their place already, bits 16-31 the inline bytes'
/// count (for padding: the lines to skip). The producer clears the word of the line behind a
/// record before it publishes the record, so an old byte is never taken for a word.
enum Record {
  static let maximumLineCount = 4
  static let sendInlineOffset = 8
  static let writeInlineOffset = 24
  /// Bytes of one request.
  static let maximumByteCount = 1 << 30
  /// Of the bytes that the next record copies so many are brought near while this one's are copied;
  /// the processor itself goes on from there.
  static let prefetchedByteCount = 1024
  static let maximumInlineByteCount = maximumLineCount * 64 - writeInlineOffset  // 232

  static let inlineFlag: UInt32 = 1 << 8
  static let placedFlag: UInt32 = 1 << 9
  /// Skips to the start of the ring.
  static let padding: UInt32 = 255

  /// The kind of an opcode; never 0.
  @inline(__always)
  static func kind(_ opcode: SendOpcode) -> UInt32 { UInt32(opcode.rawValue) &+ 1 }

  @inline(__always)
  static func opcode(_ word: UInt32) -> SendOpcode? {
    SendOpcode(rawValue: UInt8(truncatingIfNeeded: word) &- 1)
  }

  @inline(__always)
  static func inlineOffset(_ opcode: SendOpcode) -> Int {
    opcode == .send || opcode == .sendWithImmediate ? sendInlineOffset : writeInlineOffset
  }

  /// Lines of a record whose inline bytes begin at `offset`.
  @inline(__always)
  static func lineCount(inlineOffset offset: Int, byteCount: Int) -> Int {
    (offset &+ byteCount &+ 63) >> 6
  }
}

/// Where a record that is not inline finds its bytes; a private copy of what the peer wrote.
@safe
struct RecordFields {
  var byteCount: UInt32
  var remoteKey: RemoteKey
  var remoteAddress: UInt64
  var firstAddress: UInt64
  var firstByteCount: UInt32
  var secondByteCount: UInt32
  var secondAddress: UInt64

  /// Copies the fields out of the ring once; the peer may change them afterwards.
  @inline(__always)
  init(copying line: UnsafeMutableRawPointer) {
    // Atomic loads, because the compiler may repeat plain ones, after the checks, too.
    let counts = unsafe SharedWord64(at: line + 8).load()
    byteCount = UInt32(truncatingIfNeeded: counts)
    remoteKey = RemoteKey(rawValue: UInt32(truncatingIfNeeded: counts >> 32))
    unsafe remoteAddress = SharedWord64(at: line + 16).load()
    unsafe firstAddress = SharedWord64(at: line + 24).load()
    let elements = unsafe SharedWord64(at: line + 32).load()
    firstByteCount = UInt32(truncatingIfNeeded: elements)
    secondByteCount = UInt32(truncatingIfNeeded: elements >> 32)
    unsafe secondAddress = SharedWord64(at: line + 40).load()
  }

  @inline(__always)
  static func write(_ request: SendRequest, to line: UnsafeMutableRawPointer) {
    let elements = request.elements
    unsafe writeTarget(request, to: line)
    unsafe line.storeBytes(of: elements.first.address, toByteOffset: 24, as: UInt64.self)
    unsafe line.storeBytes(of: elements.first.byteCount, toByteOffset: 32, as: UInt32.self)
    unsafe line.storeBytes(of: elements.second.byteCount, toByteOffset: 36, as: UInt32.self)
    unsafe line.storeBytes(of: elements.second.address, toByteOffset: 40, as: UInt64.self)
  }

  @inline(__always)
  static func writeTarget(_ request: SendRequest, to line: UnsafeMutableRawPointer) {
    let byteCount = UInt32(truncatingIfNeeded: request.elements.byteCount)
    unsafe line.storeBytes(of: byteCount, toByteOffset: 8, as: UInt32.self)
    unsafe line.storeBytes(of: request.remoteKey.rawValue, toByteOffset: 12, as: UInt32.self)
    unsafe line.storeBytes(of: request.remoteAddress, toByteOffset: 16, as: UInt64.self)
  }
}
