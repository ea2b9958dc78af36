import CFabricLinux
import CFabricURing
import FabricPlatform
import Synchronization

/// A store over a regular file or block device, reached through io_uring; past the page cache where
/// the file system allows it.
///
/// The file is locked for as long as the store or a request of it lives: the lock is on the very
/// open file that the requests use, so that whoever gets it next, be it after a `kill -9`, is past
/// the last write of its predecessor.
public final class FileStore: Store {
  public let path: String
  public let blockByteCount: UInt32
  public let isReadOnly: Bool
  public let accessDescription: String
  /// The volume's identity, kept in the sibling file.
  public let identifier: VolumeIdentifier
  /// Whether requests go past the page cache.
  public let isDirect: Bool
  /// Whether it is a block device.
  public let isDevice: Bool
  /// Whether opening made the file.
  public let isNew: Bool

  /// Where buffers must begin to be used in place, in bytes; a power of two.
  let memoryAlignment: Int
  let marks: UncorrectableMap
  /// What `writeZeroes` writes where the file system cannot punch.
  let zeroes: Mapping
  private let descriptor: Descriptor
  private let currentBlockCount: Atomic<UInt64>
  private let metadataPath: String
  private let hasNewMetadata: Bool

  init(opened: borrowing OpenedFile, descriptor: consuming Descriptor) throws(StoreError) {
    path = opened.path
    blockByteCount = opened.metadata.blockByteCount
    currentBlockCount = Atomic(opened.byteCount / UInt64(blockByteCount))
    isReadOnly = opened.isReadOnly
    identifier = opened.metadata.identifier
    isDirect = opened.isDirect
    isDevice = opened.isDevice
    isNew = opened.isNew
    memoryAlignment = opened.memoryAlignment
    marks = UncorrectableMap(opened.metadata.uncorrectable)
    metadataPath = opened.metadataPath
    hasNewMetadata = opened.hasNewMetadata
    accessDescription = opened.accessDescription
    self.descriptor = descriptor
    do throws(Errno) {
      zeroes = try Mapping.anonymous(byteCount: 1 << 20)
    } catch {
      throw .systemCall(name: "mmap", path: opened.path, reason: error)
    }
  }

  deinit {
    // All queues have drained and gone. The kernel may hold the file a little longer on their
    // rings' behalf; the lock should not wait for that.
    _ = fabric_unlock_whole_file(descriptor.rawValue)
  }

  /// Relaxed: whoever tells others that there are more synchronises with them by telling.
  public var blockCount: UInt64 { currentBlockCount.load(ordering: .relaxed) }
  public var directMemory: DirectMemory? { nil }
  public var hasUncorrectableBlocks: Bool { !marks.isEmpty }
  var fileNumber: CInt { descriptor.rawValue }

  public func makeQueue(depth: Int) throws(StoreError) -> any StoreQueue {
    guard queueDepths.contains(depth) else { throw .depthNotSupported(depth) }
    return try FileStoreQueue(store: self, depth: depth)
  }

  /// Looks at the file's or the device's size. Two threads may do so at once.
  public func grow() -> Bool {
    guard let byteCount = try? Self.size(descriptor, path: path, isDevice: isDevice) else {
      return false
    }
    let found = byteCount / UInt64(blockByteCount)
    return currentBlockCount.max(found, ordering: .relaxed).oldValue < found
  }

  /// Bytes of the file or device now, which may be fewer than are served.
  public var actualByteCount: UInt64? {
    try? Self.size(descriptor, path: path, isDevice: isDevice)
  }

  /// Takes back what opening made, for a volume that is not to be served after all: the file, its
  /// sibling, both or none. What was there before stays.
  public func removeIfNew() {
    if isNew { _ = unsafe unlink(path) }
    if hasNewMetadata { _ = unsafe unlink(metadataPath) }
  }

  /// Makes blocks unreadable and keeps that on disk before it returns.
  func mark(_ blocks: Range<UInt64>) throws(BlockStatus) {
    try marks.mark(blocks) { ranges throws(StoreError) in try save(ranges) }
  }

  /// Forgets that blocks were unreadable, on disk before it returns.
  func clearMarks(_ blocks: Range<UInt64>) throws(BlockStatus) {
    try marks.clear(blocks) { ranges throws(StoreError) in try save(ranges) }
  }

  private func save(_ ranges: BlockRanges) throws(StoreError) {
    try VolumeMetadata(
      identifier: identifier, blockByteCount: blockByteCount, uncorrectable: ranges
    ).write(to: metadataPath)
  }
}
