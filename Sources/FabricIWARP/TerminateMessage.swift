public import FabricWire

/// The last message of a connection that has failed. (RFC 5040 section 4.8)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 1 | layer (4 bits), type (4 bits) |
/// | 1 | 1 | code |
/// | 2 | 2 | 0x80 length follows, 0x40 DDP header follows, 0x20 read request follows; 13 bits of 0 |
/// | 4 | 2 | bytes of the segment at fault |
/// | | 14, 18 | its DDP header |
/// | | 28 | the read request that it carried |
public struct TerminateMessage: Equatable, Sendable {
  /// The segment that was at fault.
  public struct Segment: Equatable, Sendable {
    /// Header and payload.
    public var byteCount: UInt16
    /// As it came, 14 or 18 bytes: it may be wrong in any way.
    public var header: [UInt8]
    /// As it came, 28 bytes.
    public var readRequest: [UInt8]?

    public init(byteCount: UInt16, header: [UInt8], readRequest: [UInt8]? = nil) {
      self.byteCount = byteCount
      self.header = header
      self.readRequest = readRequest
    }
  }

  public static let maximumByteCount =
    6 + SegmentHeader.untaggedByteCount + ReadRequestHeader.byteCount

  public var cause: TerminateCause
  public var segment: Segment?

  public init(_ cause: TerminateCause, segment: Segment? = nil) {
    self.cause = cause
    self.segment = segment
  }

  public var bytes: [UInt8] {
    var bytes = [cause.layer << 4 | cause.type, cause.code, 0, 0]
    guard let segment else { return bytes }
    bytes[2] = segment.readRequest == nil ? 0xc0 : 0xe0
    bytes += [UInt8(segment.byteCount >> 8), UInt8(truncatingIfNeeded: segment.byteCount)]
    return bytes + segment.header + (segment.readRequest ?? [])
  }

  /// Reads what a peer sent; nil when it is too short for what it says follows. The cause is read
  /// whatever it is: a peer may know more of them.
  public init?(_ payload: WireView) {
    guard payload.byteCount >= 4 else { return nil }
    let first = payload.uint8(at: 0)
    cause = TerminateCause(layer: first >> 4, type: first & 15, code: payload.uint8(at: 1))
    let follows = payload.uint8(at: 2)
    guard follows & 0xc0 == 0xc0 else { return }
    guard payload.byteCount >= 7 else { return nil }
    let isTagged = payload.uint8(at: 6) & 0x80 != 0
    let headerCount = isTagged ? SegmentHeader.taggedByteCount : SegmentHeader.untaggedByteCount
    let requestCount = follows & 0x20 != 0 ? ReadRequestHeader.byteCount : 0
    guard payload.byteCount >= 6 + headerCount + requestCount else { return nil }
    segment = Segment(
      byteCount: payload.bigUInt16(at: 4), header: payload.slice(6, headerCount).array,
      readRequest: requestCount == 0
        ? nil : payload.slice(6 + headerCount, requestCount).array)
  }
}
