import FabricPlatform
public import FabricWire

/// Finds the FPDUs in a stream of bytes and takes the segments out of them. (RFC 5044 section 4)
public struct FPDUReader: Sendable {
  /// What is wrong with the stream; nothing behind it can be trusted.
  public enum Fault: Error, Equatable, Sendable {
    case checksum
    /// A marker that does not point to the beginning of its FPDU.
    case marker

    public var cause: TerminateCause {
      switch self {
      case .checksum: TerminateCause.MPA.checksum
      case .marker: TerminateCause.MPA.marker
      }
    }
  }

  private let hasMarkers: Bool
  private let hasChecksums: Bool
  /// Bytes taken since the first FPDU, modulo the markers' interval.
  private var position = 0
  /// The segment without its markers.
  private var unmarked: [UInt8] = []

  public init(markers: Bool, checksums: Bool) {
    hasMarkers = markers
    hasChecksums = checksums
  }

  /// Takes the FPDU at the beginning of `bytes`, when all of it is there.
  ///
  /// - Parameter body: given the segment, which lies in `bytes` where there are no markers.
  /// - Returns: how many bytes the FPDU took, markers included; nil while some are missing.
  public mutating func take(
    from bytes: WireView, _ body: (WireView) -> Void
  ) throws(Fault) -> Int? {
    hasMarkers ? try takeMarked(from: bytes, body) : try takePlain(from: bytes, body)
  }

  private func takePlain(
    from bytes: WireView, _ body: (WireView) -> Void
  ) throws(Fault) -> Int? {
    guard bytes.byteCount >= 2 else { return nil }
    let count = Int(bytes.bigUInt16(at: 0))
    let padded = FPDUWriter.paddedByteCount(count)
    guard bytes.byteCount >= padded + 4 else { return nil }
    try check(bytes.slice(0, padded), bytes.uint32(at: padded))
    body(bytes.slice(2, count))
    return padded + 4
  }

  private func check(_ summed: WireView, _ expected: UInt32) throws(Fault) {
    guard hasChecksums else { return }
    var checksum = Checksum()
    unsafe checksum.add(summed.rawBytes)
    guard checksum.value == expected else { throw .checksum }
  }

  // MARK: With markers

  private mutating func takeMarked(
    from bytes: WireView, _ body: (WireView) -> Void
  ) throws(Fault) -> Int? {
    var cursor = Cursor(bytes: bytes, position: position)
    try cursor.skipFirstMarker()
    let start = cursor.offset
    guard let high = try cursor.next(from: start), let low = try cursor.next(from: start) else {
      return nil
    }
    let count = Int(high) << 8 | Int(low)
    unmarked.removeAll(keepingCapacity: true)
    for _ in 2..<FPDUWriter.paddedByteCount(count) {
      guard let byte = try cursor.next(from: start) else { return nil }
      unmarked.append(byte)
    }
    guard try cursor.skipMarker(from: start) else { return nil }
    let end = cursor.offset
    var expected: UInt32 = 0
    for place in 0..<4 as Range<UInt32> {
      guard let byte = try cursor.next(from: start) else { return nil }
      expected |= UInt32(byte) << (8 * place)
    }
    try check(bytes.slice(0, end), expected)
    position = cursor.position
    // A byte behind, so that there is an address for no bytes at all.
    unmarked.append(0)
    unsafe unmarked.withUnsafeBytes { raw in
      body(unsafe WireView(raw.baseAddress!, byteCount: count))
    }
    return cursor.offset
  }

  /// Goes over a stream byte by byte and leaves the markers out.
  private struct Cursor {
    let bytes: WireView
    var offset = 0
    /// Modulo the interval.
    var position: Int

    init(bytes: WireView, position: Int) {
      self.bytes = bytes
      self.position = position
    }

    /// A marker right in front of an FPDU says 0.
    mutating func skipFirstMarker() throws(Fault) { _ = try skipMarker(from: offset) }

    /// False when a marker is due and not all there.
    mutating func skipMarker(from start: Int) throws(Fault) -> Bool {
      guard position == 0 else { return true }
      guard bytes.byteCount >= offset + FPDUWriter.markerByteCount else { return false }
      guard bytes.bigUInt16(at: offset + 2) == UInt16(offset - start) else { throw .marker }
      offset += FPDUWriter.markerByteCount
      position += FPDUWriter.markerByteCount
      return true
    }

    mutating func next(from start: Int) throws(Fault) -> UInt8? {
      guard try skipMarker(from: start), offset < bytes.byteCount else { return nil }
      let byte = bytes.uint8(at: offset)
      offset += 1
      position = (position + 1) % FPDUWriter.markerInterval
      return byte
    }
  }
}
