/// What a request asks of a store.
public enum BlockOperation: UInt8, BitwiseCopyable, CaseIterable, Sendable {
  /// Copies blocks into the caller's buffer.
  case read
  /// Copies the caller's buffer into blocks.
  case write
  /// Makes every write that has completed survive a loss of power.
  case flush
  /// Compares blocks with the caller's buffer.
  case compare
  /// Makes blocks unreadable until they are written again.
  case writeUncorrectable
  /// Makes blocks read as zeroes, giving their space back where the store can.
  case writeZeroes
  /// Gives blocks' space back; where the store can, they read as zeroes afterwards.
  case deallocate

  /// Whether the operation changes what is stored.
  @inlinable
  public var isModifying: Bool {
    switch self {
    case .write, .writeUncorrectable, .writeZeroes, .deallocate: true
    case .read, .flush, .compare: false
    }
  }

  /// Whether the operation uses a buffer of the caller.
  @inlinable
  public var movesData: Bool {
    switch self {
    case .read, .write, .compare: true
    case .flush, .writeUncorrectable, .writeZeroes, .deallocate: false
    }
  }
}

/// Extras of a request.
public struct BlockFlags: OptionSet, BitwiseCopyable, Sendable {
  public let rawValue: UInt8

  @inlinable
  public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// The request completes only once its blocks survive a loss of power. Allowed with `write` and
  /// `writeZeroes`; without effect on `read`.
  public static let forceUnitAccess = BlockFlags(rawValue: 1)
  /// The blocks' space is kept: later writes to them find room. Allowed with `writeZeroes`.
  public static let keepSpace = BlockFlags(rawValue: 2)
  /// Ends with `unsupported` where the store would have to write the zeroes one by one. Allowed with
  /// `writeZeroes`.
  public static let onlyIfFast = BlockFlags(rawValue: 4)

  /// All that `writeZeroes` may have.
  static let ofZeroes: BlockFlags = [.forceUnitAccess, .keepSpace, .onlyIfFast]
  static let keptFast: BlockFlags = [.keepSpace, .onlyIfFast]
}
