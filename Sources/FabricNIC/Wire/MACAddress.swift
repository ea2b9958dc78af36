/// An Ethernet address.
public struct MACAddress: Hashable, Sendable, BitwiseCopyable, CustomStringConvertible {
  /// Six bytes, the first one highest.
  public let value: UInt64

  @inlinable public init(value: UInt64) { self.value = value & 0xFFFF_FFFF_FFFF }

  /// - Parameter bytes: six, in the order of the wire.
  public init(_ bytes: some Sequence<UInt8>) {
    self.init(value: bytes.prefix(6).reduce(0) { $0 << 8 | UInt64($1) })
  }

  /// Six pairs of hexadecimal digits with colons between them; nil for anything else.
  public init?(_ text: String) {
    let parts = text.split(separator: ":", omittingEmptySubsequences: false)
    let bytes = parts.compactMap { $0.utf8.count <= 2 ? UInt8($0, radix: 16) : nil }
    guard parts.count == 6, bytes.count == 6 else { return nil }
    self.init(bytes)
  }

  /// An address of a host's own: not one that a maker was given, and of one station.
  public static func random() -> MACAddress {
    MACAddress(value: UInt64.random(in: 0...UInt64.max) & 0xFCFF_FFFF_FFFF | 0x0200_0000_0000)
  }

  public static let broadcast = MACAddress(value: 0xFFFF_FFFF_FFFF)

  /// Whether it is that of a group: broadcast or multicast.
  @inlinable public var isGroup: Bool { value & 0x0100_0000_0000 != 0 }
  /// Whether a station may have it.
  public var isOfStation: Bool { !isGroup && value != 0 }

  public var bytes: [UInt8] { (0..<6).map { UInt8(truncatingIfNeeded: value >> (40 - 8 * $0)) } }

  public var description: String {
    bytes.map { byte in
      let digits = String(byte, radix: 16)
      return byte < 16 ? "0\(digits)" : digits
    }.joined(separator: ":")
  }
}
