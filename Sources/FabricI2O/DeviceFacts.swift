public import FabricStorage
public import FabricWire

/// What a device says of itself when it is asked for its parameters. (IT-51)
public struct DeviceFacts: Equatable, Sendable {
  /// The volume's name.
  public var name: String
  public var identifier: VolumeIdentifier
  public var blockByteCount: UInt32
  public var byteCount: UInt64
  /// Whether this host may only read it.
  public var isReadOnly: Bool

  public init(
    name: String, identifier: VolumeIdentifier, blockByteCount: UInt32, byteCount: UInt64,
    isReadOnly: Bool
  ) {
    self.name = name
    self.identifier = identifier
    self.blockByteCount = blockByteCount
    self.byteCount = byteCount
    self.isReadOnly = isReadOnly
  }
}

/// A group of parameters of a block storage device: fields one behind the other. (IT-51)
public enum ParameterGroup: UInt16, Sendable, CaseIterable {
  /// Type, paths, power state (0), bytes of a block, bytes in all, capabilities, state.
  case deviceInfo = 0x0000
  /// Bytes in all, bytes of a block.
  case mediaInfo = 0x0004
  /// Name, bytes in all, length of a stripe (0), depth of interleaving (0).
  case volumeSetInformation = 0x0200
  /// Class, owner, parent, three texts, revision, and as serial number the volume's identity: its
  /// format (1: binary), and its length ahead of its bytes.
  case deviceIdentity = 0xF100

  static let nameByteCount = 64
  static let readOnlyBit: UInt32 = 0x20
  /// Powered on, ready, with its medium loaded.
  static let stateBits: UInt32 = 0x0E
  /// Several paths, and a capacity that may grow.
  static let capabilityBits: UInt32 = 0x06

  /// The bytes of each field.
  public var fieldByteCounts: [Int] {
    switch self {
    case .deviceInfo: [1, 1, 2, 4, 8, 4, 4]
    case .mediaInfo: [8, 4]
    case .volumeSetInformation: [Self.nameByteCount, 8, 8, 8]
    case .deviceIdentity: [4, 2, 2, 16, 16, 16, 8, 1, 17]
    }
  }

  public var byteCount: Int { fieldByteCounts.reduce(0, +) }

  /// Writes every field to a buffer of `byteCount` bytes.
  func encode(_ facts: DeviceFacts, into buffer: WireBuffer) {
    buffer.clear()
    switch self {
    case .deviceInfo:
      let readOnly = facts.isReadOnly ? Self.readOnlyBit : 0
      buffer.set(1 as UInt8, at: 1)
      buffer.set(facts.blockByteCount, at: 4)
      buffer.set(facts.byteCount, at: 8)
      buffer.set(Self.capabilityBits | readOnly, at: 16)
      buffer.set(Self.stateBits | readOnly, at: 20)
    case .mediaInfo:
      buffer.set(facts.byteCount, at: 0)
      buffer.set(facts.blockByteCount, at: 8)
    case .volumeSetInformation:
      Self.set(facts.name, limit: Self.nameByteCount, at: 0, in: buffer)
      buffer.set(facts.byteCount, at: 64)
    case .deviceIdentity:
      buffer.set(UInt32(I2O.randomBlockStorage) | 1 << 12, at: 0)
      buffer.set(I2O.noTID, at: 4)
      Self.set("ChannelFabric", limit: 16, at: 8, in: buffer)
      Self.set("volume", limit: 16, at: 24, in: buffer)
      Self.set(facts.name, limit: 16, at: 40, in: buffer)
      buffer.set(1 as UInt8, at: 64)
      buffer.set(16 as UInt8, at: 65)
      buffer.set(facts.identifier.high, at: 66)
      buffer.set(facts.identifier.low, at: 74)
    }
  }

  private static func set(_ text: String, limit: Int, at offset: Int, in buffer: WireBuffer) {
    for (index, byte) in text.utf8.prefix(limit).enumerated() {
      buffer.set(byte, at: offset + index)
    }
  }
}

extension DeviceFacts {
  /// The groups to ask for, in order, to make the facts of.
  public static let groups: [ParameterGroup] = [
    .deviceInfo, .volumeSetInformation, .deviceIdentity,
  ]

  /// Reads the fields of these groups; nil when they make no sense.
  public init?(info: WireView, volumeSet: WireView, identity: WireView) {
    guard info.byteCount == ParameterGroup.deviceInfo.byteCount,
      volumeSet.byteCount == ParameterGroup.volumeSetInformation.byteCount,
      identity.byteCount == ParameterGroup.deviceIdentity.byteCount,
      identity.uint8(at: 64) == 1, identity.uint8(at: 65) == 16
    else { return nil }
    let bytes = volumeSet.slice(0, ParameterGroup.nameByteCount).array.prefix { $0 != 0 }
    let block = info.uint32(at: 4)
    let byteCount = info.uint64(at: 8)
    guard let name = String(validating: bytes, as: UTF8.self), !name.isEmpty, block > 0,
      block <= 1 << 20, block.nonzeroBitCount == 1, byteCount % UInt64(block) == 0
    else { return nil }
    self.init(
      name: name,
      identifier: VolumeIdentifier(
        high: identity.uint64(at: 66), low: identity.uint64(at: 74)),
      blockByteCount: block, byteCount: byteCount,
      isReadOnly: info.uint32(at: 20) & ParameterGroup.readOnlyBit != 0)
  }
}
