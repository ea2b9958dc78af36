public import FabricStorage
import FabricWire

/// What a unit answers to an opening that it accepts. (IO-15)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | mark `CFIO` |
/// | 4 | 2 | protocol version |
/// | 6 | 1 | access: 0 read-only, 1 read-write |
/// | 7 | 1 | length of the unit's name |
/// | 8 | 16 | the volume's identity, high then low; 0 for discovery |
/// | 24 | 8 | block count |
/// | 32 | 4 | bytes of a block |
/// | 36 | 4 | most bytes that a command transfers |
/// | 40 | 2 | most commands in flight |
/// | 42 | 1 | the path's state |
/// | 43 | 1 | reserved |
/// | 44 | | the unit's name |
public struct UnitOpening: Equatable, Sendable {
  public var unitName: String
  public var volume: VolumeIdentifier
  public var blockByteCount: UInt32
  public var blockCount: UInt64
  /// What the host may do.
  public var access: VolumeAccess
  /// The most bytes that one command may read, write or compare.
  public var maximumTransferByteCount: UInt32
  /// The most commands that the host may have in flight.
  public var depth: UInt16
  /// How good a way to the volume the address is.
  public var pathState: PathState

  public init(
    unitName: String, volume: VolumeIdentifier, blockByteCount: UInt32, blockCount: UInt64,
    access: VolumeAccess, maximumTransferByteCount: UInt32, depth: UInt16,
    pathState: PathState = .optimised
  ) {
    self.unitName = unitName
    self.volume = volume
    self.blockByteCount = blockByteCount
    self.blockCount = blockCount
    self.access = access
    self.maximumTransferByteCount = maximumTransferByteCount
    self.depth = depth
    self.pathState = pathState
  }

  /// The bytes to accept with.
  ///
  /// - Throws: `.invalidName` for a unit's name that is empty or too long.
  public func encoded() throws(ProtocolFault) -> [UInt8] {
    guard WireName.isValid(unitName) else {
      throw .invalidName(record: "the answer", field: "the unit's name")
    }
    var writer = WireWriter()
    writer.append(IOProtocol.mark)
    writer.append(IOProtocol.version)
    writer.append(access == .readWrite ? 1 : 0 as UInt8)
    writer.append(UInt8(unitName.utf8.count))
    writer.append(volume.high)
    writer.append(volume.low)
    writer.append(blockCount)
    writer.append(blockByteCount)
    writer.append(maximumTransferByteCount)
    writer.append(depth)
    writer.append(pathState.rawValue)
    writer.append(0 as UInt8)
    writer.append(unitName)
    return writer.bytes
  }

  /// Reads the answer of a peer. The block size is 512 or 4096, and the volume's size in bytes
  /// fits 63 bits; on a discovery channel all sizes are 0.
  ///
  /// - Throws: every case of `ProtocolFault`.
  public init(decoding bytes: [UInt8]) throws(ProtocolFault) {
    self = try bytes.withWireView { view throws(ProtocolFault) in try Self(view) }
  }

  private init(_ view: WireView) throws(ProtocolFault) {
    let record = "the answer"
    try HostOpening.checkStart(of: view, shortest: 44, record: record)
    guard view.uint8(at: 6) <= 1 else {
      throw .invalidField(record: record, field: "access", found: UInt64(view.uint8(at: 6)))
    }
    guard view.uint8(at: 43) == 0 else { throw .reservedNotZero(record: record) }
    let nameCount = Int(view.uint8(at: 7))
    guard view.byteCount == 44 + nameCount, nameCount > 0 else {
      throw .wrongByteCount(record: record, expected: 44 + nameCount, found: view.byteCount)
    }
    self.init(
      unitName: try WireName.decode(
        view, at: 44, byteCount: nameCount, record: record, field: "the unit's name"),
      volume: VolumeIdentifier(high: view.uint64(at: 8), low: view.uint64(at: 16)),
      blockByteCount: view.uint32(at: 32), blockCount: view.uint64(at: 24),
      access: view.uint8(at: 6) == 1 ? .readWrite : .readOnly,
      maximumTransferByteCount: view.uint32(at: 36), depth: view.uint16(at: 40),
      pathState: try PathState.decode(view.uint8(at: 42), record: record))
    try VolumeGeometry.check(
      blockByteCount: blockByteCount, blockCount: blockCount, record: record)
    // On a discovery channel there are no commands.
    guard blockByteCount > 0 else { return }
    guard depth > 0 else { throw .invalidField(record: record, field: "depth", found: 0) }
    guard maximumTransferByteCount >= blockByteCount else {
      throw .invalidField(
        record: record, field: "the largest transfer", found: UInt64(maximumTransferByteCount))
    }
  }
}

/// Sizes that a peer names.
enum VolumeGeometry {
  static func check(
    blockByteCount: UInt32, blockCount: UInt64, record: String
  ) throws(ProtocolFault) {
    if blockByteCount == 0, blockCount == 0 { return }
    guard blockByteCount == 512 || blockByteCount == 4096 else {
      throw .invalidField(
        record: record, field: "the block size", found: UInt64(blockByteCount))
    }
    let size = blockCount.multipliedReportingOverflow(by: UInt64(blockByteCount))
    guard blockCount > 0, !size.overflow, size.partialValue <= UInt64(Int64.max) else {
      throw .invalidField(record: record, field: "the block count", found: blockCount)
    }
  }
}
