import CFabricURing
import FabricPlatform

extension FileStore {
  /// What the file system says; where it says nothing, all have space. (ST-84)
  public func extent(of blocks: Range<UInt64>) -> BlockExtent {
    let all = UInt64(blocks.count)
    // What was made unreadable must not be taken for zeroes.
    if hasUncorrectableBlocks { return BlockExtent(blockCount: all, isAllocated: true) }
    let block = UInt64(blockByteCount)
    let start = Int64(blocks.lowerBound * block)
    let data = fabric_next_data(fileNumber, start)
    if data < 0 {
      // Beyond the last data there is only a hole.
      return BlockExtent(blockCount: all, isAllocated: Errno.current != .noSuchDeviceOrAddress)
    }
    let holeBlockCount = UInt64(max(0, data - start)) / block
    if holeBlockCount > 0 {
      return BlockExtent(blockCount: min(all, holeBlockCount), isAllocated: false)
    }
    let hole = fabric_next_hole(fileNumber, max(start, data))
    guard hole > start else { return BlockExtent(blockCount: all, isAllocated: true) }
    // A block that is data in part is data.
    let dataBlockCount = (UInt64(hole - start) + block - 1) / block
    return BlockExtent(blockCount: min(all, dataBlockCount), isAllocated: true)
  }
}
