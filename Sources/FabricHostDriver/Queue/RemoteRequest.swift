public import FabricStorage
public import FabricVerbs

/// A request to a remote volume. Its data lies in memory of the queue that it is given to, which
/// must stay as it is until the completion.
public struct RemoteRequest: Sendable, BitwiseCopyable {
  public var operation: BlockOperation
  public var flags: BlockFlags
  /// How many blocks; 0 for a flush.
  public var blockCount: UInt32
  /// First block.
  public var block: UInt64
  /// Comes back with the completion; the caller's own.
  public var tag: UInt64
  /// The data; no bytes when the operation moves none.
  public var data: ScatterGatherElement
  /// For the unit, to write a read's data with.
  public var remoteKey: RemoteKey

  /// A request that moves no data.
  @inlinable
  public init(
    _ operation: BlockOperation, block: UInt64 = 0, blockCount: UInt32 = 0, tag: UInt64 = 0,
    flags: BlockFlags = []
  ) {
    self.operation = operation
    self.flags = flags
    self.blockCount = blockCount
    self.block = block
    self.tag = tag
    data = ScatterGatherElement(address: 0, byteCount: 0, localKey: LocalKey(rawValue: 0))
    remoteKey = RemoteKey(rawValue: 0)
  }

  /// A request whose data lies at `offset` of `region`, which `RemoteVolumeQueue.allocate` made.
  /// Traps outside the region.
  @inlinable
  public init(
    _ operation: BlockOperation, block: UInt64, blockCount: UInt32, region: MemoryRegion,
    offset: Int, byteCount: Int, tag: UInt64 = 0, flags: BlockFlags = []
  ) {
    self.init(operation, block: block, blockCount: blockCount, tag: tag, flags: flags)
    data = region.element(offset: offset, byteCount: byteCount)
    remoteKey = region.remoteKey ?? RemoteKey(rawValue: 0)
  }
}
