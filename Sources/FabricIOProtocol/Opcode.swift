public import FabricStorage

/// A command's number, as in the NVM Express command set. (IO-30)
public enum Opcode: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case flush = 0x00
  case write = 0x01
  case read = 0x02
  case writeUncorrectable = 0x04
  case compare = 0x05
  case writeZeroes = 0x08
  case deallocate = 0x09

  @inlinable
  public init(_ operation: BlockOperation) {
    self =
      switch operation {
      case .flush: .flush
      case .write: .write
      case .read: .read
      case .writeUncorrectable: .writeUncorrectable
      case .compare: .compare
      case .writeZeroes: .writeZeroes
      case .deallocate: .deallocate
      }
  }

  /// What the command asks of a store.
  @inlinable
  public var operation: BlockOperation {
    switch self {
    case .flush: .flush
    case .write: .write
    case .read: .read
    case .writeUncorrectable: .writeUncorrectable
    case .compare: .compare
    case .writeZeroes: .writeZeroes
    case .deallocate: .deallocate
    }
  }

  /// Whether the host sends data along with the command.
  @inlinable
  public var carriesData: Bool { self == .write || self == .compare }
}
