public import FabricVerbs
public import FabricWire

/// What an RDMAP message is. (RFC 5040 section 4.3, RFC 7306 section 5)
public enum MessageOpcode: UInt8, Sendable, CaseIterable {
  case write = 0
  case readRequest = 1
  case readResponse = 2
  case send = 3
  case sendWithInvalidate = 4
  case sendWithSolicitedEvent = 5
  case sendWithSolicitedEventAndInvalidate = 6
  case terminate = 7
  case immediate = 8
  case immediateWithSolicitedEvent = 9

  /// Whether its segments name where they go themselves.
  public var isTagged: Bool { self == .write || self == .readResponse }
}

/// The queues of untagged messages. (RFC 5040 section 5.1)
public enum UntaggedQueue: UInt32, Sendable {
  case sends = 0
  case readRequests = 1
  case terminate = 2
}

/// The DDP header of a segment with RDMAP's fields in it. (RFC 5041 section 4, RFC 5040 section 4)
///
/// | Offset | Tagged | Untagged |
/// |---|---|---|
/// | 0 | 0x80 tagged, 0x40 last, 0x03 DDP version | the same |
/// | 1 | RDMAP version (2 bits), 0 (2), opcode (4) | the same |
/// | 2 | steering tag u32 | steering tag to invalidate, or 0 |
/// | 6 | tagged offset u64 | queue u32 |
/// | 10 | | message sequence number u32 |
/// | 14 | the payload | message offset u32 |
/// | 18 | | the payload |
public struct SegmentHeader: Equatable, Sendable {
  /// Where the payload goes.
  public enum Place: Equatable, Sendable {
    case tagged(key: RemoteKey, offset: UInt64)
    /// `invalidates` means something in sends with invalidate only, and is 0 otherwise.
    case untagged(queue: UInt32, sequence: UInt32, offset: UInt32, invalidates: RemoteKey)
  }

  public static let taggedByteCount = 14
  public static let untaggedByteCount = 18
  private static let ddpVersion: UInt8 = 1
  private static let rdmapVersion: UInt8 = 1

  public var opcode: MessageOpcode
  /// The last segment of its message.
  public var isLast: Bool
  public var place: Place

  public init(_ opcode: MessageOpcode, isLast: Bool, place: Place) {
    self.opcode = opcode
    self.isLast = isLast
    self.place = place
  }

  /// What is wrong with a header, in the terms that a terminate message reports.
  public enum Malformed: Error, Equatable, Sendable {
    /// Fewer bytes than its kind has.
    case short
    case ddpVersion(isTagged: Bool)
    case rdmapVersion
    /// An opcode that does not exist, or in the wrong kind of segment.
    case opcode
  }

  public var byteCount: Int {
    if case .tagged = place { Self.taggedByteCount } else { Self.untaggedByteCount }
  }

  /// Writes the header to the beginning of `buffer`.
  public func write(to buffer: WireBuffer) {
    var control = Self.ddpVersion
    if isLast { control |= 0x40 }
    buffer.set(Self.rdmapVersion << 6 | opcode.rawValue, at: 1)
    switch place {
    case .tagged(let key, let offset):
      control |= 0x80
      buffer.setBig(key.rawValue, at: 2)
      buffer.setBig(offset, at: 6)
    case .untagged(let queue, let sequence, let offset, let invalidates):
      buffer.setBig(invalidates.rawValue, at: 2)
      buffer.setBig(queue, at: 6)
      buffer.setBig(sequence, at: 10)
      buffer.setBig(offset, at: 14)
    }
    buffer.set(control, at: 0)
  }

  /// Whether a segment is all of a message with the opcode `send`, numbered `sequence`.
  @inline(__always)
  static func isWholeSend(_ segment: WireView, sequence: UInt32) -> Bool {
    guard segment.byteCount >= untaggedByteCount else { return false }
    return segment.uint8(at: 0) == ddpVersion | 0x40
      && segment.uint8(at: 1) == rdmapVersion << 6 | MessageOpcode.send.rawValue
      && segment.bigUInt32(at: 6) == UntaggedQueue.sends.rawValue
      && segment.bigUInt32(at: 10) == sequence && segment.bigUInt32(at: 14) == 0
  }

  /// Reads the header from the beginning of a segment. Versions are looked at before anything
  /// whose meaning they change.
  public init(_ segment: WireView) throws(Malformed) {
    guard segment.byteCount >= 2 else { throw .short }
    let control = segment.uint8(at: 0)
    let isTagged = control & 0x80 != 0
    guard control & 3 == Self.ddpVersion else { throw .ddpVersion(isTagged: isTagged) }
    let byteCount = isTagged ? Self.taggedByteCount : Self.untaggedByteCount
    guard segment.byteCount >= byteCount else { throw .short }
    let rdmap = segment.uint8(at: 1)
    guard rdmap >> 6 == Self.rdmapVersion else { throw .rdmapVersion }
    guard let opcode = MessageOpcode(rawValue: rdmap & 15), opcode.isTagged == isTagged else {
      throw .opcode
    }
    self.opcode = opcode
    isLast = control & 0x40 != 0
    let key = RemoteKey(rawValue: segment.bigUInt32(at: 2))
    place =
      isTagged
      ? .tagged(key: key, offset: segment.bigUInt64(at: 6))
      : .untagged(
        queue: segment.bigUInt32(at: 6), sequence: segment.bigUInt32(at: 10),
        offset: segment.bigUInt32(at: 14), invalidates: key)
  }
}
