/// One request to a store or, through a port, to a volume. Plain data, 48 bytes.
public struct BlockRequest: BitwiseCopyable, Sendable {
  /// First block.
  public var block: UInt64
  /// Where the data is or goes, in this process; stays valid until the completion. 0 when the
  /// operation moves none.
  public var address: UInt64
  /// Comes back with the completion; the caller's own.
  public var tag: UInt64
  /// How many blocks; 0 for a flush.
  public var blockCount: UInt32
  /// Bytes at `address`: `blockCount` blocks' worth, or 0 when the operation moves none.
  public var byteCount: UInt32
  /// On whose behalf, as `VolumePort.attach` numbered it; 0 is the port itself. Stores ignore it.
  public var client: UInt32
  public var operation: BlockOperation
  public var flags: BlockFlags

  @inlinable
  public init(
    _ operation: BlockOperation, block: UInt64 = 0, blockCount: UInt32 = 0, address: UInt64 = 0,
    byteCount: UInt32 = 0, tag: UInt64 = 0, flags: BlockFlags = [], client: UInt32 = 0
  ) {
    self.block = block
    self.address = address
    self.tag = tag
    self.blockCount = blockCount
    self.byteCount = byteCount
    self.client = client
    self.operation = operation
    self.flags = flags
  }

  /// The blocks; empty for a flush. The range must have been checked not to wrap.
  @inlinable
  public var blocks: Range<UInt64> {
    unsafe Range(uncheckedBounds: (block, block &+ UInt64(blockCount)))
  }
}

/// The end of one request.
public struct BlockCompletion: BitwiseCopyable, Equatable, Sendable {
  /// The request's.
  public var tag: UInt64
  /// Bytes moved before the end: all of them on success, those ahead of the bad block when the
  /// medium failed in the middle, otherwise 0.
  public var transferredByteCount: UInt32
  public var status: BlockStatus

  @inlinable
  public init(tag: UInt64, status: BlockStatus, transferredByteCount: UInt32 = 0) {
    self.tag = tag
    self.status = status
    self.transferredByteCount = transferredByteCount
  }
}
