public import FabricWire

/// What the two sides of a connection say before the first FPDU. (RFC 5044 section 7.1, RFC 6581)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 16 | `MPA ID Req Frame` or `MPA ID Rep Frame` |
/// | 16 | 1 | flags: 0x80 markers, 0x40 CRC, 0x20 rejected, 0x10 enhanced |
/// | 17 | 1 | revision: 1, or 2 for enhanced |
/// | 18 | 2 | bytes of private data, at most 512 |
/// | 20 | | private data; with the enhanced flag IRD and ORD first, 2 bytes each |
public struct StartFrame: Equatable, Sendable {
  public enum Kind: Sendable { case request, reply }

  /// The first four bytes of private data of an enhanced frame. (RFC 6581 section 9)
  public struct Limits: Equatable, Sendable {
    public static let byteCount = 4
    public static let maximumDepth: UInt16 = 0x3fff

    /// RDMA reads that the sender answers at once, at most 16383; 16383 leaves it open.
    public var inboundReadDepth: UInt16
    /// RDMA reads that the sender will have under way, at most 16383.
    public var outboundReadDepth: UInt16
    /// Neither side need be the first to send.
    public var isPeerToPeer = false
    /// What the initiator offers, or is told, to send first where that is so.
    public var readyToReceive: ReadyToReceive = []

    public init(inboundReadDepth: UInt16, outboundReadDepth: UInt16) {
      self.inboundReadDepth = inboundReadDepth
      self.outboundReadDepth = outboundReadDepth
    }
  }

  /// Messages that may open a peer-to-peer connection.
  public struct ReadyToReceive: OptionSet, Sendable {
    public let rawValue: UInt8
    public init(rawValue: UInt8) { self.rawValue = rawValue }

    /// An FPDU of no bytes.
    public static let emptyFPDU = ReadyToReceive(rawValue: 1)
    /// An RDMA write of no bytes.
    public static let emptyWrite = ReadyToReceive(rawValue: 2)
    /// An RDMA read of no bytes.
    public static let emptyRead = ReadyToReceive(rawValue: 4)
  }

  public static let headerByteCount = 20
  public static let maximumPrivateDataByteCount = 512

  public var kind: Kind
  /// The sender wants markers in what it receives.
  public var wantsMarkers = false
  /// The sender wants checksums both ways.
  public var wantsChecksums = false
  /// A reply that declines the connection.
  public var isRejected = false
  public var revision: UInt8 = 2
  /// Present in an enhanced frame.
  public var limits: Limits?
  /// The user's own.
  public var privateData: [UInt8] = []

  public init(_ kind: Kind) { self.kind = kind }

  /// Why bytes are no start frame.
  public enum Malformed: Error, Equatable, Sendable {
    case key
    case revision(UInt8)
    case privateDataTooLong(Int)
    /// The enhanced flag without its limits, or with the older revision.
    case limits
  }

  // MARK: Bytes

  private static func key(_ kind: Kind) -> [UInt8] {
    Array((kind == .request ? "MPA ID Req Frame" : "MPA ID Rep Frame").utf8)
  }

  /// The frame as it goes out.
  public var bytes: [UInt8] {
    var bytes = Self.key(kind)
    var flags: UInt8 = 0
    if wantsMarkers { flags |= 0x80 }
    if wantsChecksums { flags |= 0x40 }
    if isRejected { flags |= 0x20 }
    if limits != nil { flags |= 0x10 }
    let limitBytes = limits.map(Self.bytes) ?? []
    let count = UInt16(limitBytes.count + privateData.count)
    precondition(count <= Self.maximumPrivateDataByteCount, "the private data is too long")
    bytes += [flags, revision, UInt8(count >> 8), UInt8(truncatingIfNeeded: count)]
    return bytes + limitBytes + privateData
  }

  private static func bytes(_ limits: Limits) -> [UInt8] {
    var inbound = min(limits.inboundReadDepth, Limits.maximumDepth)
    var outbound = min(limits.outboundReadDepth, Limits.maximumDepth)
    if limits.isPeerToPeer { inbound |= 0x8000 }
    if limits.readyToReceive.contains(.emptyFPDU) { inbound |= 0x4000 }
    if limits.readyToReceive.contains(.emptyWrite) { outbound |= 0x8000 }
    if limits.readyToReceive.contains(.emptyRead) { outbound |= 0x4000 }
    return [inbound, outbound].flatMap { [UInt8($0 >> 8), UInt8(truncatingIfNeeded: $0)] }
  }

  /// Reads a frame from the beginning of `view`, as far as it has come.
  ///
  /// - Parameter revisions: those that the reader speaks.
  /// - Returns: the frame and its length in bytes; nil while bytes are missing.
  /// - Throws: `Malformed`, as soon as the bytes that are there show it.
  public static func read(
    _ kind: Kind, from view: WireView, revisions: ClosedRange<UInt8> = 1...2
  ) throws(Malformed) -> (frame: StartFrame, byteCount: Int)? {
    let key = key(kind)
    for index in 0..<min(key.count, view.byteCount) where view.uint8(at: index) != key[index] {
      throw .key
    }
    guard view.byteCount >= 18 else { return nil }
    let flags = view.uint8(at: 16)
    let revision = view.uint8(at: 17)
    guard revisions.contains(revision) else { throw .revision(revision) }
    let isEnhanced = flags & 0x10 != 0
    guard !isEnhanced || revision == 2 else { throw .limits }
    guard view.byteCount >= 19 else { return nil }
    // The high byte alone may say that it is too much.
    let low = view.byteCount > 19 ? view.uint8(at: 19) : 0
    let count = Int(view.uint8(at: 18)) << 8 | Int(low)
    guard count <= maximumPrivateDataByteCount else { throw .privateDataTooLong(count) }
    guard view.byteCount >= headerByteCount else { return nil }
    guard !isEnhanced || count >= Limits.byteCount else { throw .limits }
    guard view.byteCount >= headerByteCount + count else { return nil }

    var frame = StartFrame(kind)
    frame.revision = revision
    frame.wantsMarkers = flags & 0x80 != 0
    frame.wantsChecksums = flags & 0x40 != 0
    frame.isRejected = flags & 0x20 != 0
    var rest = view.slice(headerByteCount, count)
    if isEnhanced {
      frame.limits = limits(rest)
      rest = rest.slice(Limits.byteCount, count - Limits.byteCount)
    }
    frame.privateData = rest.array
    return (frame, headerByteCount + count)
  }

  private static func limits(_ view: WireView) -> Limits {
    let inbound = view.bigUInt16(at: 0)
    let outbound = view.bigUInt16(at: 2)
    var limits = Limits(
      inboundReadDepth: inbound & Limits.maximumDepth,
      outboundReadDepth: outbound & Limits.maximumDepth)
    limits.isPeerToPeer = inbound & 0x8000 != 0
    if inbound & 0x4000 != 0 { limits.readyToReceive.insert(.emptyFPDU) }
    if outbound & 0x8000 != 0 { limits.readyToReceive.insert(.emptyWrite) }
    if outbound & 0x4000 != 0 { limits.readyToReceive.insert(.emptyRead) }
    return limits
  }
}
