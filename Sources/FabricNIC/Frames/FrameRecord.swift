import CFabricLinux
public import FabricWire

/// How a frame lies in a message or a buffer, one behind the other, each at a multiple of 8 bytes. (NI-11)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | bytes of the frame |
/// | 4 | 2 | 0 |
/// | 6 | 10 | virtio-net header (virtio 1.2, section 5.1.6, without the number of buffers) |
/// | 16 | | the frame, from its destination address on, without a check sequence |
public enum FrameRecord {
  public static let headerByteCount = 16
  /// Where the virtio-net header begins: with what follows it is what a TAP interface reads and writes.
  public static let vnetOffset = 6
  public static let vnetByteCount = 10
  /// Addresses and type.
  public static let ethernetByteCount = 14
  /// A packet of 65,535 bytes, its Ethernet header and two VLAN tags.
  public static let maximumFrameByteCount = 65_535 + 14 + 8
  /// Of a frame of any length, with what fills it up.
  public static let maximumByteCount = (headerByteCount + maximumFrameByteCount + 7) & ~7

  /// Bytes that a record of a frame takes.
  @inlinable @inline(__always)
  public static func byteCount(ofFrame count: Int) -> Int {
    (headerByteCount &+ count &+ 7) & ~7
  }

  /// Writes what stands before the virtio-net header.
  @inlinable @inline(__always)
  public static func write(frameByteCount: Int, to buffer: WireBuffer, at offset: Int) {
    buffer.set(UInt32(truncatingIfNeeded: frameByteCount), at: offset)
    buffer.set(0 as UInt16, at: offset &+ 4)
  }
}

/// A frame in memory that a peer or the kernel has written: its headers are copied out once, so that what is
/// checked is what is passed on, whatever the peer does meanwhile. (NI-12)
@safe
public struct Frame {
  /// The first bytes of the record, as words: its header, and the frame's addresses and type.
  private let words: (UInt64, UInt64, UInt64, UInt64)
  /// The record from its first byte to the end of the frame.
  private let record: WireView
  /// Bytes of the frame.
  public var byteCount: Int { record.byteCount &- FrameRecord.headerByteCount }
  /// Bytes until the next record.
  public var recordByteCount: Int { (record.byteCount &+ 7) & ~7 }

  /// The frame of a record that begins at `offset`; nil where its length does not fit the rest: the peer broke the
  /// protocol.
  public init?(in view: WireView, at offset: Int) {
    let rest = view.byteCount &- offset
    guard rest >= FrameRecord.headerByteCount else { return nil }
    let start = view.uint64(at: offset)
    let count = Int(start & 0xFFFF_FFFF)
    guard count <= FrameRecord.maximumFrameByteCount,
      FrameRecord.headerByteCount &+ count <= rest
    else { return nil }
    record = view.slice(offset, FrameRecord.headerByteCount &+ count)
    // A shorter frame is a runt: nothing of it is asked for.
    let isWhole = count >= FrameRecord.ethernetByteCount
    let high = isWhole ? record.uint32(at: 24) : 0
    let type = isWhole ? record.uint16(at: 28) : 0
    words = (
      start, record.uint64(at: 8), isWhole ? record.uint64(at: 16) : 0,
      UInt64(high) | UInt64(type) << 32
    )
  }

  public var destination: MACAddress { MACAddress(value: words.2.byteSwapped >> 16) }
  public var source: MACAddress {
    let high = UInt64(UInt16(truncatingIfNeeded: words.2 >> 48).byteSwapped)
    return MACAddress(
      value: high << 32 | UInt64(UInt32(truncatingIfNeeded: words.3).byteSwapped))
  }

  // The virtio-net header.
  private var flags: UInt8 { UInt8(truncatingIfNeeded: words.0 >> 48) }
  private var segmentation: UInt8 { UInt8(truncatingIfNeeded: words.0 >> 56) }
  private func half(_ index: Int) -> Int { Int(words.1 >> UInt64(16 &* index) & 0xFFFF) }

  /// Why a frame is not passed on; `mtu` is that of the way it takes. (NI-13)
  public func fault(mtu: Int) -> FrameFault? {
    guard byteCount >= FrameRecord.ethernetByteCount else { return .runt }
    let needsChecksum = flags & UInt8(fabric_vnet_needs_checksum) != 0
    switch CInt(segmentation & ~UInt8(fabric_vnet_gso_ecn)) {
    case CInt(fabric_vnet_gso_none):
      guard byteCount <= mtu &+ headerByteCount else { return .oversize }
    case CInt(fabric_vnet_gso_tcp4), CInt(fabric_vnet_gso_tcp6), CInt(fabric_vnet_gso_udp):
      guard needsChecksum, half(1) > 0 else { return .badHeader }
    default: return .badHeader
    }
    guard flags & ~UInt8(fabric_vnet_needs_checksum | fabric_vnet_data_valid) == 0,
      half(0) <= byteCount
    else { return .badHeader }
    guard needsChecksum else { return nil }
    guard half(2) >= FrameRecord.ethernetByteCount, half(2) &+ half(3) &+ 2 <= byteCount else {
      return .badHeader
    }
    return isToBeCut && segmentByteCount > mtu &+ headerByteCount ? .oversize : nil
  }

  /// Whether it is still to be cut into segments.
  private var isToBeCut: Bool {
    CInt(segmentation & ~UInt8(fabric_vnet_gso_ecn)) != CInt(fabric_vnet_gso_none)
  }

  /// Bytes of a segment with its headers, as far as the header of the last protocol is known: the least.
  private var segmentByteCount: Int {
    let isUDP = CInt(segmentation & ~UInt8(fabric_vnet_gso_ecn)) == CInt(fabric_vnet_gso_udp)
    return half(2) &+ (isUDP ? 8 : 20) &+ half(1)
  }

  /// How many frames it is once it is cut; 1 for one that is no segments.
  ///
  /// - Precondition: without a fault.
  public var segmentCount: Int {
    guard isToBeCut else { return 1 }
    return max(1, (byteCount &- half(2) &+ half(1) &- 1) / half(1))
  }

  /// The most that the frame's own header may have: VLAN tags make it longer.
  private var headerByteCount: Int {
    let type = UInt16(truncatingIfNeeded: words.3 >> 32).byteSwapped
    return FrameRecord.ethernetByteCount &+ (type == 0x8100 || type == 0x88A8 ? 8 : 0)
  }

  /// Copies the record: the headers that were checked, and the rest.
  ///
  /// - Precondition: no runt.
  public func copy(to buffer: WireBuffer, at offset: Int) {
    writeHeaders(to: buffer, at: offset)
    buffer.copy(
      record.slice(Self.copied, record.byteCount &- Self.copied), at: offset &+ Self.copied)
  }

  private func writeHeaders(to buffer: WireBuffer, at offset: Int) {
    buffer.set(words.0, at: offset)
    buffer.set(words.1, at: offset &+ 8)
    buffer.set(words.2, at: offset &+ 16)
    buffer.set(UInt32(truncatingIfNeeded: words.3), at: offset &+ 24)
    buffer.set(UInt16(truncatingIfNeeded: words.3 >> 32), at: offset &+ 28)
  }

  private static let copied = FrameRecord.headerByteCount + FrameRecord.ethernetByteCount

  /// Lends the virtio-net header and the frame, as interfaces take them, in two pieces.
  ///
  /// - Precondition: no runt.
  func withPieces<Result>(_ body: (WireView, WireView) -> Result) -> Result {
    var headers = (0 as UInt64, 0 as UInt64, 0 as UInt64, 0 as UInt64)
    return unsafe withUnsafeMutableBytes(of: &headers) { raw in
      let buffer = unsafe WireBuffer(raw)
      writeHeaders(to: buffer, at: 0)
      return body(
        buffer.view.slice(FrameRecord.vnetOffset, Self.copied &- FrameRecord.vnetOffset),
        record.slice(Self.copied, record.byteCount &- Self.copied))
    }
  }
}

/// Why a frame is dropped.
public enum FrameFault: Sendable, Equatable {
  case runt, oversize, badHeader

  public func count(in statistics: inout NICStatistics) {
    switch self {
    case .runt: statistics.runtCount &+= 1
    case .oversize: statistics.oversizeCount &+= 1
    case .badHeader: statistics.badHeaderCount &+= 1
    }
  }
}
