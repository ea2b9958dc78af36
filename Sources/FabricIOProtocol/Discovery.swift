public import FabricStorage
public import FabricWire

/// Asks for the first volume whose name sorts after another, bytewise; after the empty name comes
/// the first. A listing repeats it with the last answer's name until there is none. (IO-40)
public struct VolumeQuery: Equatable, Sendable {
  public var previousName: String

  public init(after previousName: String = "") { self.previousName = previousName }

  /// The message's payload: the name.
  public func encoded() -> [UInt8] { Array(previousName.utf8) }

  /// - Throws: `.invalidName`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    previousName = try WireName.decode(
      view, at: 0, byteCount: view.byteCount, record: "a volume query", field: "the name")
  }
}

/// One volume of a listing, or its end. (IO-41)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 1 | 1: a volume; 0: there is none after the name asked for |
/// | 1 | 1 | access: 0 read-only, 1 read-write |
/// | 2 | 1 | length of the name |
/// | 3 | 1 | reserved |
/// | 4 | 4 | bytes of a block |
/// | 8 | 16 | the volume's identity, high then low |
/// | 24 | 8 | block count |
/// | 32 | | the name |
public struct VolumeEntry: Equatable, Sendable {
  public struct Volume: Equatable, Sendable {
    public var name: String
    public var identifier: VolumeIdentifier
    public var blockByteCount: UInt32
    public var blockCount: UInt64
    public var access: VolumeAccess

    public init(
      name: String, identifier: VolumeIdentifier, blockByteCount: UInt32, blockCount: UInt64,
      access: VolumeAccess
    ) {
      self.name = name
      self.identifier = identifier
      self.blockByteCount = blockByteCount
      self.blockCount = blockCount
      self.access = access
    }
  }

  /// nil: the listing is at its end.
  public var volume: Volume?

  public init(_ volume: Volume?) { self.volume = volume }

  /// The message's payload.
  ///
  /// - Throws: `.invalidName`.
  public func encoded() throws(ProtocolFault) -> [UInt8] {
    guard let volume else { return [UInt8](repeating: 0, count: 32) }
    guard WireName.isValid(volume.name) else {
      throw .invalidName(record: "a volume entry", field: "the name")
    }
    var writer = WireWriter()
    writer.append(1 as UInt8)
    writer.append(volume.access == .readWrite ? 1 : 0 as UInt8)
    writer.append(UInt8(volume.name.utf8.count))
    writer.append(0 as UInt8)
    writer.append(volume.blockByteCount)
    writer.append(volume.identifier.high)
    writer.append(volume.identifier.low)
    writer.append(volume.blockCount)
    writer.append(volume.name)
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.reservedNotZero`, `.invalidName`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "a volume entry"
    guard view.byteCount >= 32 else {
      throw .wrongByteCount(record: record, expected: 32, found: view.byteCount)
    }
    let nameCount = Int(view.uint8(at: 2))
    guard view.byteCount == 32 + nameCount else {
      throw .wrongByteCount(record: record, expected: 32 + nameCount, found: view.byteCount)
    }
    guard view.uint8(at: 0) <= 1, view.uint8(at: 1) <= 1 else {
      throw .invalidField(
        record: record, field: "presence or access", found: UInt64(view.uint16(at: 0)))
    }
    guard view.uint8(at: 3) == 0 else { throw .reservedNotZero(record: record) }
    guard view.uint8(at: 0) == 1 else {
      volume = nil
      return
    }
    let name = try WireName.decode(
      view, at: 32, byteCount: nameCount, record: record, field: "the name")
    guard !name.isEmpty else { throw .invalidName(record: record, field: "the name") }
    let volume = Volume(
      name: name,
      identifier: VolumeIdentifier(high: view.uint64(at: 8), low: view.uint64(at: 16)),
      blockByteCount: view.uint32(at: 4), blockCount: view.uint64(at: 24),
      access: view.uint8(at: 1) == 1 ? .readWrite : .readOnly)
    try VolumeGeometry.check(
      blockByteCount: volume.blockByteCount, blockCount: volume.blockCount, record: record)
    guard volume.blockByteCount > 0 else {
      throw .invalidField(record: record, field: "the block size", found: 0)
    }
    self.volume = volume
  }
}
