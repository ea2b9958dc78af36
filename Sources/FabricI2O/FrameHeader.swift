public import FabricWire

/// The first words of every frame. (IT-10)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 1 | version in bits 0 to 2, offset of the scatter list in words in bits 4 to 7 |
/// | 1 | 1 | flags |
/// | 2 | 2 | words of the frame |
/// | 4 | 4 | target in bits 0 to 11, initiator in bits 12 to 23, function in bits 24 to 31 |
/// | 8 | 4 | the initiator's context |
/// | 12 | 4 | the transaction's context, where the function has one |
public struct FrameHeader: Equatable, Sendable, BitwiseCopyable {
  public static let byteCount = 12

  public var version: UInt8
  /// Words from the frame's start to its scatter list; 0: it has none.
  public var listOffset: UInt8
  public var flags: I2O.MessageFlags
  /// As the frame says, which may be wrong.
  public var wordCount: UInt16
  public var target: UInt16
  public var initiator: UInt16
  public var function: UInt8
  /// Come back in the reply.
  public var initiatorContext: UInt32
  public var transactionContext: UInt32

  @inlinable
  public init(
    _ function: I2O.Function, target: UInt16, wordCount: Int, listOffset: UInt8 = 0,
    initiatorContext: UInt32 = 0, transactionContext: UInt32 = 0
  ) {
    version = I2O.version
    self.listOffset = listOffset
    flags = []
    self.wordCount = UInt16(wordCount)
    self.target = target
    initiator = I2O.hostTID
    self.function = function.rawValue
    self.initiatorContext = initiatorContext
    self.transactionContext = transactionContext
  }

  /// Reads a frame's first words, whatever they say; traps below 12 bytes. A frame that ends ahead of
  /// the transaction's context has 0 for it.
  @inlinable
  public init(_ frame: WireView) {
    let first = frame.uint32(at: 0)
    let second = frame.uint32(at: 4)
    version = UInt8(truncatingIfNeeded: first) & 0x07
    listOffset = UInt8(truncatingIfNeeded: first) >> 4
    flags = I2O.MessageFlags(rawValue: UInt8(truncatingIfNeeded: first >> 8))
    wordCount = UInt16(truncatingIfNeeded: first >> 16)
    target = UInt16(truncatingIfNeeded: second) & 0x0FFF
    initiator = UInt16(truncatingIfNeeded: second >> 12) & 0x0FFF
    function = UInt8(truncatingIfNeeded: second >> 24)
    initiatorContext = frame.uint32(at: 8)
    transactionContext = frame.byteCount >= 16 ? frame.uint32(at: 12) : 0
  }

  /// Writes the first 16 bytes, or 12 where the buffer ends there.
  @inlinable
  public func encode(into buffer: WireBuffer) {
    buffer.set(
      UInt32(version) | UInt32(listOffset) << 4 | UInt32(flags.rawValue) << 8
        | UInt32(wordCount) << 16, at: 0)
    buffer.set(
      UInt32(target) | UInt32(initiator) << 12 | UInt32(function) << 24, at: 4)
    buffer.set(initiatorContext, at: 8)
    if buffer.byteCount >= 16 { buffer.set(transactionContext, at: 12) }
  }

  /// The same, as the head of an answer of so many words. (IT-11)
  @inlinable
  public func answer(wordCount: Int, isFailure: Bool = false) -> FrameHeader {
    var header = self
    header.version = I2O.version
    header.listOffset = 0
    header.flags = isFailure ? .failed : .answer
    header.wordCount = UInt16(wordCount)
    return header
  }
}
