/// The blocks of the volume that a judge serves, which stay from one connection of a case to the next.
final class BlockMemory {
  private var bytes = [UInt8](repeating: 0, count: UnitEnd.blockCount * UnitEnd.blockByteCount)

  /// Carries a command out.
  ///
  /// - Returns: its status, and what a read is to push.
  func carryOut(_ command: CommandRecord, _ data: [UInt8]?) -> (status: UInt16, data: [UInt8]?) {
    if command.opcode == BlockOpcode.flush { return (BlockStatus.success, nil) }
    let count = Int(command.blockCount)
    guard command.firstBlock < UInt64(UnitEnd.blockCount),
      count <= UnitEnd.blockCount - Int(command.firstBlock)
    else { return (BlockStatus.lbaOutOfRange, nil) }
    let start = Int(command.firstBlock) * UnitEnd.blockByteCount
    let range = start..<start + count * UnitEnd.blockByteCount
    switch command.opcode {
    case BlockOpcode.read where Int(command.dataByteCount) == range.count:
      return (BlockStatus.success, Array(bytes[range]))
    case BlockOpcode.write where data?.count == range.count:
      bytes.replaceSubrange(range, with: data!)
      return (BlockStatus.success, nil)
    case BlockOpcode.compare where data?.count == range.count:
      return (Array(bytes[range]) == data! ? BlockStatus.success : BlockStatus.compareFailure, nil)
    case BlockOpcode.writeZeroes, BlockOpcode.deallocate:
      bytes.replaceSubrange(range, with: repeatElement(0, count: range.count))
      return (BlockStatus.success, nil)
    case BlockOpcode.read, BlockOpcode.write, BlockOpcode.compare:
      return (BlockStatus.invalidField, nil)
    default: return (BlockStatus.unsupported, nil)
    }
  }
}
