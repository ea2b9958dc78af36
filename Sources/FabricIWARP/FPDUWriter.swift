import FabricPlatform
public import FabricWire

/// Wraps segments into FPDUs: length, segment, padding, checksum, and markers where the peer wants
/// them. (RFC 5044 section 4)
///
/// One per direction of a connection: markers count the bytes of the stream from the first FPDU on.
public struct FPDUWriter: Sendable {
  /// Bytes of the stream between the beginnings of two markers.
  static let markerInterval = 512
  static let markerByteCount = 4
  /// What a length field can say.
  public static let maximumSegmentByteCount = 0xffff

  private let hasMarkers: Bool
  private let hasChecksums: Bool
  /// Bytes written since the first FPDU, modulo the interval.
  private var position = 0

  public init(markers: Bool, checksums: Bool) {
    hasMarkers = markers
    hasChecksums = checksums
  }

  /// Bytes from an FPDU's beginning to the end of its padding, without markers.
  static func paddedByteCount(_ segmentByteCount: Int) -> Int { (2 + segmentByteCount + 3) & ~3 }

  /// Appends the FPDU of a segment to `bytes`.
  ///
  /// - Parameter segment: header and payload together, at most 65535 bytes.
  public mutating func append(_ segment: WireView, to bytes: inout [UInt8]) {
    let count = segment.byteCount
    precondition(count <= Self.maximumSegmentByteCount, "a segment is longer than its length field")
    // A marker right in front is summed with what follows; distances count from the length on.
    let sumStart = bytes.count
    if hasMarkers && position == 0 { appendMarker(distance: 0, to: &bytes) }
    let start = bytes.count
    append([UInt8(count >> 8), UInt8(truncatingIfNeeded: count)], start, &bytes)
    unsafe append(segment.rawBytes, start, &bytes)
    let padding = Self.paddedByteCount(count) - 2 - count
    append(Array(repeating: 0, count: padding), start, &bytes)
    // In front of the checksum a marker is part of what is summed.
    if hasMarkers && position == 0 { appendMarker(distance: bytes.count - start, to: &bytes) }
    var sum: UInt32 = 0
    if hasChecksums {
      var checksum = Checksum()
      unsafe bytes.withUnsafeBytes { raw in
        unsafe checksum.add(UnsafeRawBufferPointer(rebasing: raw[sumStart...]))
      }
      sum = checksum.value
    }
    // The sum goes out with its low byte first.
    append((0..<4).map { UInt8(truncatingIfNeeded: sum >> (8 * $0)) }, start, &bytes)
  }

  private mutating func append(
    _ piece: some Collection<UInt8>, _ start: Int, _ bytes: inout [UInt8]
  ) {
    guard hasMarkers else { return bytes.append(contentsOf: piece) }
    var rest = piece[...]
    while !rest.isEmpty {
      if position == 0 { appendMarker(distance: bytes.count - start, to: &bytes) }
      let room = Self.markerInterval - position
      bytes.append(contentsOf: rest.prefix(room))
      position = (position + min(room, rest.count)) % Self.markerInterval
      rest = rest.dropFirst(room)
    }
  }

  /// - Parameter distance: bytes of the stream from the FPDU's beginning.
  private mutating func appendMarker(distance: Int, to bytes: inout [UInt8]) {
    bytes += [0, 0, UInt8(distance >> 8), UInt8(truncatingIfNeeded: distance)]
    position += Self.markerByteCount
  }
}
