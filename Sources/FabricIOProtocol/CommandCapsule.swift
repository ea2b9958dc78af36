public import FabricStorage
public import FabricVerbs
public import FabricWire

/// What a host asks of a unit, 64 bytes. (IO-30 to IO-33)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 1 | opcode |
/// | 1 | 1 | flags: bit 0 force unit access |
/// | 4 | 4 | tag |
/// | 8 | 8 | first block |
/// | 16 | 4 | block count |
/// | 20 | 4 | byte count of the data |
/// | 24 | 8 | address of the host's buffer (read) |
/// | 32 | 4 | remote key of the host's buffer (read) |
public struct CommandCapsule: Equatable, Sendable, BitwiseCopyable {
  public static let byteCount = 64

  public var opcode: Opcode
  public var flags: BlockFlags
  public var tag: RequestTag
  /// First block; 0 for a flush.
  public var block: UInt64
  /// How many blocks; 0 for a flush.
  public var blockCount: UInt32
  /// Bytes that a read brings back, or that come with a write or compare; otherwise 0.
  public var byteCount: UInt32
  /// Where a read's data goes at the host; otherwise 0.
  public var remoteAddress: UInt64
  public var remoteKey: RemoteKey

  @inlinable
  public init(
    _ opcode: Opcode, tag: RequestTag, block: UInt64 = 0, blockCount: UInt32 = 0,
    byteCount: UInt32 = 0, flags: BlockFlags = [], remoteAddress: UInt64 = 0,
    remoteKey: RemoteKey = RemoteKey(rawValue: 0)
  ) {
    self.opcode = opcode
    self.flags = flags
    self.tag = tag
    self.block = block
    self.blockCount = blockCount
    self.byteCount = byteCount
    self.remoteAddress = remoteAddress
    self.remoteKey = remoteKey
  }

  /// Reads a capsule that a peer sent. What it asks for is for the unit's port to judge.
  ///
  /// - Throws: `.wrongByteCount`; `.invalidField` for an opcode or flag without meaning;
  ///   `.reservedNotZero`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    guard view.byteCount == Self.byteCount else {
      throw .wrongByteCount(
        record: "a command", expected: Self.byteCount, found: view.byteCount)
    }
    guard let opcode = Opcode(rawValue: view.uint8(at: 0)) else {
      throw .invalidField(
        record: "a command", field: "the opcode", found: UInt64(view.uint8(at: 0)))
    }
    let flags = BlockFlags(rawValue: view.uint8(at: 1))
    guard flags.isSubset(of: .forceUnitAccess) else {
      throw .invalidField(record: "a command", field: "the flags", found: UInt64(flags.rawValue))
    }
    let reserved =
      UInt64(view.uint16(at: 2)) | UInt64(view.uint32(at: 36)) | view.uint64(at: 40)
      | view.uint64(at: 48) | view.uint64(at: 56)
    guard reserved == 0 else { throw .reservedNotZero(record: "a command") }
    self.init(
      opcode, tag: RequestTag(rawValue: view.uint32(at: 4)), block: view.uint64(at: 8),
      blockCount: view.uint32(at: 16), byteCount: view.uint32(at: 20), flags: flags,
      remoteAddress: view.uint64(at: 24), remoteKey: RemoteKey(rawValue: view.uint32(at: 32)))
  }

  /// Writes the capsule to the first 64 bytes of `buffer`; traps when that is shorter.
  @inlinable
  public func encode(into buffer: WireBuffer) {
    buffer.set(opcode.rawValue, at: 0)
    buffer.set(flags.rawValue, at: 1)
    buffer.set(0 as UInt16, at: 2)
    buffer.set(tag.rawValue, at: 4)
    buffer.set(block, at: 8)
    buffer.set(blockCount, at: 16)
    buffer.set(byteCount, at: 20)
    buffer.set(remoteAddress, at: 24)
    buffer.set(remoteKey.rawValue, at: 32)
    buffer.set(0 as UInt32, at: 36)
    buffer.set(0 as UInt64, at: 40)
    buffer.set(0 as UInt64, at: 48)
    buffer.set(0 as UInt64, at: 56)
  }
}
