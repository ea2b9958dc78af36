public import FabricStorage
import FabricWire

/// What a volume is, as a unit answers to `identify`. (IO-72)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 16 | identity, high then low |
/// | 16 | 8 | block count |
/// | 24 | 4 | bytes of a block |
/// | 28 | 1 | what the host may do: 0 read, 1 read and write |
/// | 29 | 1 | length of the volume's name |
/// | 30 | 1 | length of the unit's name |
/// | 31 | 1 | reserved |
/// | 32 | | the two names |
public struct ControlIdentity: Equatable, Sendable {
  public var identifier: VolumeIdentifier
  public var blockCount: UInt64
  public var blockByteCount: UInt32
  public var access: VolumeAccess
  public var volumeName: String
  public var unitName: String

  public init(
    identifier: VolumeIdentifier, blockCount: UInt64, blockByteCount: UInt32,
    access: VolumeAccess, volumeName: String, unitName: String
  ) {
    self.identifier = identifier
    self.blockCount = blockCount
    self.blockByteCount = blockByteCount
    self.access = access
    self.volumeName = volumeName
    self.unitName = unitName
  }

  /// The answer's payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.append(identifier.high)
    writer.append(identifier.low)
    writer.append(blockCount)
    writer.append(blockByteCount)
    writer.append(access == .readWrite ? 1 : 0 as UInt8)
    writer.append(UInt8(volumeName.utf8.count))
    writer.append(UInt8(unitName.utf8.count))
    writer.append(0 as UInt8)
    writer.append(volumeName)
    writer.append(unitName)
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.invalidName`.
  public init(decoding bytes: [UInt8]) throws(ProtocolFault) {
    self = try bytes.withWireView { view throws(ProtocolFault) in try Self(view) }
  }

  private init(_ view: WireView) throws(ProtocolFault) {
    let record = "an identity"
    guard view.byteCount >= 32 else {
      throw .wrongByteCount(record: record, expected: 32, found: view.byteCount)
    }
    let volumeCount = Int(view.uint8(at: 29))
    let unitCount = Int(view.uint8(at: 30))
    guard view.byteCount == 32 + volumeCount + unitCount else {
      throw .wrongByteCount(
        record: record, expected: 32 + volumeCount + unitCount, found: view.byteCount)
    }
    guard view.uint8(at: 28) <= 1 else {
      throw .invalidField(record: record, field: "access", found: UInt64(view.uint8(at: 28)))
    }
    guard view.uint8(at: 31) == 0 else { throw .reservedNotZero(record: record) }
    self.init(
      identifier: VolumeIdentifier(high: view.uint64(at: 0), low: view.uint64(at: 8)),
      blockCount: view.uint64(at: 16), blockByteCount: view.uint32(at: 24),
      access: view.uint8(at: 28) == 1 ? .readWrite : .readOnly,
      volumeName: try WireName.decode(
        view, at: 32, byteCount: volumeCount, record: record, field: "the volume's name"),
      unitName: try WireName.decode(
        view, at: 32 + volumeCount, byteCount: unitCount, record: record,
        field: "the unit's name"))
    try VolumeGeometry.check(
      blockByteCount: blockByteCount, blockCount: blockCount, record: record)
  }
}

/// How a volume has done since the unit began, for all its hosts of this protocol, as a unit answers to
/// `health`. (IO-73)
///
/// Seven numbers of 8 bytes each, in the order of the properties.
public struct ControlHealth: Equatable, Sendable {
  public var readCount: UInt64 = 0
  public var readByteCount: UInt64 = 0
  public var writeCount: UInt64 = 0
  public var writtenByteCount: UInt64 = 0
  /// Requests that the medium failed.
  public var mediaErrorCount: UInt64 = 0
  /// Flushes that failed.
  public var flushFailureCount: UInt64 = 0
  public var secondsInService: UInt64 = 0

  public init() {}

  /// The answer's payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    for value in [
      readCount, readByteCount, writeCount, writtenByteCount, mediaErrorCount, flushFailureCount,
      secondsInService,
    ] { writer.append(value) }
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`.
  public init(decoding bytes: [UInt8]) throws(ProtocolFault) {
    guard bytes.count == 56 else {
      throw .wrongByteCount(record: "a volume's health", expected: 56, found: bytes.count)
    }
    let values = try bytes.withWireView { view throws(ProtocolFault) in
      (0..<7).map { view.uint64(at: $0 * 8) }
    }
    readCount = values[0]
    readByteCount = values[1]
    writeCount = values[2]
    writtenByteCount = values[3]
    mediaErrorCount = values[4]
    flushFailureCount = values[5]
    secondsInService = values[6]
  }
}
