import CFabricLinux

/// CRC-32C (Castagnoli), the checksum of iWARP and of storage protocols. (RFC 3720 appendix B.4)
///
/// By the processor's own instruction where it has one.
public struct Checksum: Sendable {
  private var state: UInt32 = ~0

  /// The checksum of no bytes.
  public init() {}

  /// Adds bytes behind those before.
  public mutating func add(_ bytes: UnsafeRawBufferPointer) {
    guard let start = bytes.baseAddress else { return }
    guard Self.hasInstruction else {
      return unsafe state = Self.addSlowly(bytes, to: state)
    }
    var place = unsafe start.assumingMemoryBound(to: UInt8.self)
    var left = bytes.count
    for shift in Self.shifts {
      while left >= 3 * shift.byteCount {
        unsafe state = shift.add(place, to: state)
        unsafe place += 3 * shift.byteCount
        left -= 3 * shift.byteCount
      }
    }
    unsafe state = fabric_crc32c(state, place, left)
  }

  /// For long and for shorter stretches.
  private static let shifts = [ChecksumShift(byteCount: 1360), ChecksumShift(byteCount: 128)]

  /// Of all bytes added.
  public var value: UInt32 { ~state }

  /// Of `bytes`.
  public static func of(_ bytes: [UInt8]) -> UInt32 {
    var sum = Checksum()
    unsafe bytes.withUnsafeBytes { unsafe sum.add($0) }
    return sum.value
  }

  private static let hasInstruction = fabric_has_crc32c()

  // MARK: Without the instruction

  private static let table: [UInt32] = (0..<256 as Range<UInt32>).map { byte in
    (0..<8).reduce(byte) { sum, _ in sum >> 1 ^ (sum & 1 == 1 ? 0x82F6_3B78 : 0) }
  }

  static func addSlowly(_ bytes: UnsafeRawBufferPointer, to state: UInt32) -> UInt32 {
    unsafe bytes.reduce(state) { $0 >> 8 ^ table[Int(UInt8(truncatingIfNeeded: $0) ^ $1)] }
  }
}
