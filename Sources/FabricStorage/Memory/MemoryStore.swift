import FabricPlatform

/// A store whose blocks are memory. What it holds goes with the process.
public final class MemoryStore: Store {
  public let blockByteCount: UInt32
  public let blockCount: UInt64
  public let isReadOnly: Bool
  let address: UInt64
  let marks = UncorrectableMap()
  /// Keeps the memory mapped.
  private let owner: any AnyObject & Sendable

  /// A store over memory that somebody else provides, for example memory that a fabric may write.
  ///
  /// - Parameters:
  ///   - address: the first byte; mapped and writable (readable, for a read-only store) for as long
  ///     as `owner` lives.
  ///   - byteCount: a multiple of `blockByteCount`, not 0.
  ///   - owner: kept alive by the store.
  /// - Throws: `.blockSizeNotSupported`, `.sizeNotWhole`, `.empty`.
  @unsafe
  public init(
    address: UInt64, byteCount: UInt64, owner: any AnyObject & Sendable,
    blockByteCount: UInt32 = 4096, isReadOnly: Bool = false
  ) throws(StoreError) {
    try Self.check(byteCount: byteCount, blockByteCount: blockByteCount)
    self.address = address
    self.owner = owner
    self.blockByteCount = blockByteCount
    self.blockCount = byteCount / UInt64(blockByteCount)
    self.isReadOnly = isReadOnly
  }

  /// A store over memory of its own, zeroed; pages are taken when they are first written.
  ///
  /// - Throws: as above, or `.noSpace` when the machine has less memory.
  public convenience init(
    byteCount: UInt64, blockByteCount: UInt32 = 4096, isReadOnly: Bool = false
  ) throws(StoreError) {
    try Self.check(byteCount: byteCount, blockByteCount: blockByteCount)
    let mapping: Mapping
    do throws(Errno) {
      mapping = try Mapping.anonymous(byteCount: Int(clamping: byteCount))
    } catch {
      throw .noSpace(path: "memory", byteCount: byteCount)
    }
    unsafe try self.init(
      address: mapping.address, byteCount: byteCount, owner: mapping,
      blockByteCount: blockByteCount, isReadOnly: isReadOnly)
  }

  public var directMemory: DirectMemory? {
    DirectMemory(address: address, byteCount: blockCount * UInt64(blockByteCount))
  }

  public var hasUncorrectableBlocks: Bool { !marks.isEmpty }

  public var accessDescription: String { "memory, lost when the process ends" }

  public func makeQueue(depth: Int) throws(StoreError) -> any StoreQueue {
    guard queueDepths.contains(depth) else { throw .depthNotSupported(depth) }
    return MemoryStoreQueue(store: self, depth: depth)
  }

  private static func check(byteCount: UInt64, blockByteCount: UInt32) throws(StoreError) {
    guard blockByteCount == 512 || blockByteCount == 4096 else {
      throw .blockSizeNotSupported(blockByteCount: blockByteCount)
    }
    guard byteCount > 0 else { throw .empty(path: "memory") }
    guard byteCount.isMultiple(of: UInt64(blockByteCount)) else {
      throw .sizeNotWhole(byteCount: byteCount, blockByteCount: blockByteCount)
    }
  }
}
