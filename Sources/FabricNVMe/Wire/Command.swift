public import FabricWire

/// A submission queue entry: 64 bytes, little-endian. (NVM Express Base Specification 1.4, figure 105;
/// NVMe over Fabrics 1.1, section 2.1)
public struct Command: Sendable, BitwiseCopyable {
  public static let byteCount = 64

  public var opcode: UInt8
  /// Fused operation in the low two bits, the form of the data pointer in the high two.
  public var flags: UInt8
  /// The host's name for it, which comes back in the completion.
  public var identifier: UInt16
  /// The namespace; of a Fabrics command, its type in the low byte.
  public var namespace: UInt32
  public var data: DataPointer
  /// Command dwords 10 to 15.
  public var dword10: UInt32
  public var dword11: UInt32
  public var dword12: UInt32
  public var dword13: UInt32
  public var dword14: UInt32
  public var dword15: UInt32

  /// Reads an entry; traps when `view` is shorter.
  @inline(__always)
  public init(_ view: WireView) {
    opcode = view.uint8(at: 0)
    flags = view.uint8(at: 1)
    identifier = view.uint16(at: 2)
    namespace = view.uint32(at: 4)
    data = DataPointer(low: view.uint64(at: 24), high: view.uint64(at: 32))
    dword10 = view.uint32(at: 40)
    dword11 = view.uint32(at: 44)
    dword12 = view.uint32(at: 48)
    dword13 = view.uint32(at: 52)
    dword14 = view.uint32(at: 56)
    dword15 = view.uint32(at: 60)
  }

  public init(opcode: UInt8, identifier: UInt16 = 0, namespace: UInt32 = 0) {
    self.opcode = opcode
    flags = 0x40
    self.identifier = identifier
    self.namespace = namespace
    data = DataPointer(low: 0, high: 0)
    dword10 = 0
    dword11 = 0
    dword12 = 0
    dword13 = 0
    dword14 = 0
    dword15 = 0
  }

  /// Writes the entry; traps when `buffer` is shorter.
  public func encode(into buffer: WireBuffer) {
    buffer.slice(0, Self.byteCount).clear()
    buffer.set(opcode, at: 0)
    buffer.set(flags, at: 1)
    buffer.set(identifier, at: 2)
    buffer.set(namespace, at: 4)
    buffer.set(data.low, at: 24)
    buffer.set(data.high, at: 32)
    buffer.set(dword10, at: 40)
    buffer.set(dword11, at: 44)
    buffer.set(dword12, at: 48)
    buffer.set(dword13, at: 52)
    buffer.set(dword14, at: 56)
    buffer.set(dword15, at: 60)
  }

  public var isFabrics: Bool { opcode == Opcode.fabrics }
  /// Of a Fabrics command.
  public var fabricsType: UInt8 { UInt8(truncatingIfNeeded: namespace) }
  /// Whether it is one half of a fused operation, which no controller of ours takes.
  public var isFused: Bool { flags & 0x3 != 0 }
  /// Whether its data is described by scatter-gather lists, as Fabrics demand.
  public var usesLists: Bool { flags & 0xC0 == 0x40 || flags & 0xC0 == 0x80 }

  /// Which way its data goes, which its opcode says, and of a Fabrics command its type. (Base 1.4, section 4.2)
  public var direction: Direction {
    Direction(rawValue: (isFabrics ? fabricsType : opcode) & 0x3) ?? .none
  }

  public enum Direction: UInt8, Sendable, BitwiseCopyable {
    case none = 0
    case fromHost = 1
    case toHost = 2
    case both = 3
  }
}

/// Where a command's data is: one scatter-gather descriptor. (Base 1.4, section 4.4)
public struct DataPointer: Sendable, BitwiseCopyable {
  public var low: UInt64
  public var high: UInt64

  public init(low: UInt64, high: UInt64) {
    self.low = low
    self.high = high
  }

  /// Data that follows the command in its capsule, from `offset`.
  public static func inCapsule(offset: UInt64 = 0, byteCount: UInt32) -> DataPointer {
    DataPointer(low: offset, high: UInt64(byteCount) | 0x01 << 56)
  }

  /// Data that the transport carries by itself. (NVMe/TCP 1.0, section 3.4)
  public static func transport(byteCount: UInt32) -> DataPointer {
    DataPointer(low: 0, high: UInt64(byteCount) | 0x5A << 56)
  }

  /// Memory of the host, from an address of its own, by a key.
  public static func keyed(address: UInt64, byteCount: UInt32, key: UInt32) -> DataPointer {
    DataPointer(
      low: address, high: UInt64(byteCount & 0xFF_FFFF) | UInt64(key) << 24 | 0x40 << 56)
  }

  /// Of the host's memory, where the form is `keyed`.
  public var key: UInt32 { UInt32(truncatingIfNeeded: high >> 24) }

  /// What its last byte names.
  public enum Form: Equatable, Sendable {
    case inCapsule
    case transport
    /// Memory of the host, by address and key.
    case keyed
    case other(UInt8)
  }

  public var form: Form {
    switch UInt8(truncatingIfNeeded: high >> 56) {
    case 0x01: .inCapsule
    case 0x5A: .transport
    case 0x40, 0x4F: .keyed
    case let other: .other(other)
    }
  }

  /// Bytes: a keyed descriptor has 24 bits for them, the others 32.
  public var byteCount: UInt32 {
    form == .keyed
      ? UInt32(truncatingIfNeeded: high) & 0xFF_FFFF : UInt32(truncatingIfNeeded: high)
  }
}
