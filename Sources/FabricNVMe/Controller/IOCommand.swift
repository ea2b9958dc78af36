public import FabricStorage
public import FabricWire

/// A command of an I/O queue as instructions for the common layer. (NVM Express Base 1.4, section 6)
public struct IOCommand: Sendable, BitwiseCopyable {
  /// How its instructions follow from it.
  public enum Form: Sendable, BitwiseCopyable {
    /// `request`, once.
    case request
    /// `deallocate` of the ranges that came as data.
    case ranges
    /// Ends well, with nothing done: hints.
    case nothing
    /// Reads of the blocks of `request`, one piece after the other, whose data nobody gets.
    case pieces
  }

  public var form = Form.request
  /// Without an address.
  public var request: BlockRequest
  /// Bytes that the command transfers.
  public var byteCount: UInt32
  public var direction: Command.Direction

  public init(
    request: BlockRequest = BlockRequest(.flush), byteCount: UInt32 = 0,
    direction: Command.Direction = .none
  ) {
    self.request = request
    self.byteCount = byteCount
    self.direction = direction
  }
}

extension Controller {
  /// What is read at once for Verify.
  public static let verifyByteCount = 128 << 10
  /// Of one range of Dataset Management.
  public static let rangeByteCount = 16
  /// Of one command.
  public static let rangeLimit = 256

  /// Translates a command, whose namespace the caller has found.
  ///
  /// Blocks, rights and the like are for the volume's port to check.
  @inline(__always)
  public static func translate(
    _ command: Command, blockShift: UInt8
  ) -> (status: Status, command: IOCommand) {
    var result = IOCommand(request: BlockRequest(.read))
    guard command.usesLists, !command.isFused else { return (.invalidField, result) }
    result.request.block = UInt64(command.dword10) | UInt64(command.dword11) << 32
    // One less than there are.
    result.request.blockCount = (command.dword12 & 0xFFFF) &+ 1
    switch command.opcode {
    case Opcode.IO.read, Opcode.IO.write, Opcode.IO.compare:
      // At most 2^16 blocks of 2^12 bytes.
      result.byteCount = result.request.blockCount &<< UInt32(blockShift)
      result.request.byteCount = result.byteCount
      result.direction = command.opcode == Opcode.IO.read ? .toHost : .fromHost
      if command.opcode != Opcode.IO.read {
        result.request.operation = command.opcode == Opcode.IO.write ? .write : .compare
      }
      if command.opcode != Opcode.IO.compare, command.dword12 & 1 << 30 != 0 {
        result.request.flags = .forceUnitAccess
      }
      return (.success, result)
    default:
      return (translateOther(command, &result), result)
    }
  }

  private static func translateOther(_ command: Command, _ result: inout IOCommand) -> Status {
    switch command.opcode {
    case Opcode.IO.flush:
      result.request = BlockRequest(.flush)
    case Opcode.IO.writeUncorrectable:
      result.request.operation = .writeUncorrectable
    case Opcode.IO.writeZeroes:
      result.request.operation = .writeZeroes
      if command.dword12 & 1 << 30 != 0 { result.request.flags = .forceUnitAccess }
    case Opcode.IO.verify:
      result.form = .pieces
    case Opcode.IO.datasetManagement:
      result.byteCount = UInt32(rangeCount(command) * rangeByteCount)
      result.direction = .fromHost
      // Other attributes are hints about use to come.
      result.form = command.dword11 & 0b100 != 0 ? .ranges : .nothing
    default:
      return .invalidOpcode
    }
    return .success
  }

  /// Ranges of a Dataset Management command.
  public static func rangeCount(_ command: Command) -> Int { Int(command.dword10 & 0xFF) + 1 }

  /// Range `index` of a Dataset Management command, to be deallocated; nil: it is empty.
  public static func range(_ index: Int, of data: WireView) -> BlockRequest? {
    let place = data.slice(index * rangeByteCount, rangeByteCount)
    let count = place.uint32(at: 4)
    return count == 0
      ? nil : BlockRequest(.deallocate, block: place.uint64(at: 8), blockCount: count)
  }
}
