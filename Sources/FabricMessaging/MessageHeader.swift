import FabricWire

/// What a message is for. (MS-2)
enum MessageType: UInt8 {
  case open = 1
  case opened = 2
  case refused = 3
  /// The user's own, with or without a buffer.
  case user = 4
  /// A push has ended: the data lies where the receiver wanted it.
  case pushed = 5
  /// Nothing but what every header carries.
  case credit = 6
  /// A list of buffers given back.
  case bufferReturn = 7
  case close = 8
  /// The initiator names its key.
  case hello = 9
  /// The acceptor's nonce, and the proof that it has that key.
  case challenge = 10
}

/// The first 16 bytes of every message, little-endian. (MS-1)
///
/// | Offset | Field |
/// |---|---|
/// | 0 | type u8 |
/// | 1 | buffers named behind the header u8, 0 or 1, 8 bytes each |
/// | 2 | kind u16, the user's |
/// | 4 | tag u32, the user's |
/// | 8 | receives reposted in all u32, wrapping |
/// | 12 | two buffers given back u16 each, 0xffff for none |
struct MessageHeader: Equatable {
  static let byteCount = 16
  static let noBuffer: UInt16 = 0xffff

  var type: MessageType
  var bufferCount: UInt8 = 0
  var kind: UInt16 = 0
  var tag: UInt32 = 0
  var reposted: UInt32 = 0
  var firstReturn = Self.noBuffer
  var secondReturn = Self.noBuffer

  init(type: MessageType, kind: UInt16 = 0, tag: UInt32 = 0) {
    self.type = type
    self.kind = kind
    self.tag = tag
  }

  @inline(__always)
  func write(to buffer: WireBuffer) {
    let low =
      UInt64(type.rawValue) | UInt64(bufferCount) << 8 | UInt64(kind) << 16 | UInt64(tag) << 32
    let high = UInt64(reposted) | UInt64(firstReturn) << 32 | UInt64(secondReturn) << 48
    buffer.set(low, at: 0)
    buffer.set(high, at: 8)
  }

  /// Nil for a type that does not exist or a buffer count out of range.
  @inline(__always)
  init?(_ view: WireView) {
    guard view.byteCount >= Self.byteCount else { return nil }
    let low = view.uint64(at: 0)
    let high = view.uint64(at: 8)
    let rawType = UInt8(truncatingIfNeeded: low)
    if rawType == MessageType.user.rawValue {
      type = .user
    } else if let other = MessageType(rawValue: rawType) {
      type = other
    } else {
      return nil
    }
    bufferCount = UInt8(truncatingIfNeeded: low >> 8)
    guard bufferCount <= 1 else { return nil }
    kind = UInt16(truncatingIfNeeded: low >> 16)
    tag = UInt32(truncatingIfNeeded: low >> 32)
    reposted = UInt32(truncatingIfNeeded: high)
    firstReturn = UInt16(truncatingIfNeeded: high >> 32)
    secondReturn = UInt16(truncatingIfNeeded: high >> 48)
  }
}

/// What a transfer's immediate value says. (MS-7)
///
/// Bit 31 set: a push has ended, bits 0-30 its tag. Clear: bits 0-15 the buffer, bits 16-30 the
/// bytes of header and payload that lie right before the buffer's data.
enum Immediate: Equatable {
  case pushed(tag: UInt32)
  case buffer(id: UInt16, headerByteCount: Int)

  static let maximumTag: UInt32 = 0x7fff_ffff

  @inline(__always)
  init(_ value: UInt32) {
    if value >> 31 != 0 {
      self = .pushed(tag: value & Self.maximumTag)
    } else {
      self = .buffer(
        id: UInt16(truncatingIfNeeded: value), headerByteCount: Int(value >> 16))
    }
  }

  @inline(__always)
  var value: UInt32 {
    switch self {
    case .pushed(let tag): 1 << 31 | tag
    case .buffer(let id, let count): UInt32(count) << 16 | UInt32(id)
    }
  }
}
