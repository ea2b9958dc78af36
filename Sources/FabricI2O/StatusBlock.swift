public import FabricWire

/// What the I/O processor says of itself, 88 bytes. (IT-20)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 8 | 4 | version in bits 12 to 15, state in bits 16 to 23 |
/// | 12 | 2 | words of the longest message |
/// | 14 | 1 | the host's code of `outboundInit` |
/// | 16 | 4 | messages that the host may have under way, and again at 20 and 24 |
/// | 28 | 24 | what it calls itself |
/// | 52 | 4 | bytes of the table of devices |
/// | 56 | 4 | capabilities: contexts have 32 bits, 0 |
/// | 87 | 1 | 0xFF: the block is whole |
public struct StatusBlock: Equatable, Sendable {
  public static let byteCount = 88
  public static let product = "ChannelFabric I/O unit"

  public var state: I2O.ProcessorState
  public var initCode: UInt8
  public var frameWordCount: UInt16
  public var depth: UInt32
  public var tableByteCount: UInt32

  public init(
    state: I2O.ProcessorState, initCode: UInt8, frameWordCount: UInt16, depth: UInt32,
    tableByteCount: UInt32
  ) {
    self.state = state
    self.initCode = initCode
    self.frameWordCount = frameWordCount
    self.depth = depth
    self.tableByteCount = tableByteCount
  }

  /// Writes the block to a buffer of 88 bytes.
  public func encode(into buffer: WireBuffer) {
    buffer.clear()
    buffer.set(UInt32(I2O.version) << 12 | UInt32(state.rawValue) << 16, at: 8)
    buffer.set(frameWordCount, at: 12)
    buffer.set(initCode, at: 14)
    for offset in [16, 20, 24] { buffer.set(depth, at: offset) }
    for (index, byte) in Self.product.utf8.enumerated() { buffer.set(byte, at: 28 + index) }
    buffer.set(tableByteCount, at: 52)
    buffer.set(0xFF as UInt8, at: 87)
  }

  /// Reads what a unit wrote; nil when it is no such block.
  public init?(_ view: WireView) {
    guard view.byteCount == Self.byteCount, view.uint8(at: 87) == 0xFF,
      UInt8(truncatingIfNeeded: view.uint32(at: 8) >> 12) & 0xF == I2O.version,
      let state = I2O.ProcessorState(
        rawValue: UInt8(truncatingIfNeeded: view.uint32(at: 8) >> 16))
    else { return nil }
    self.init(
      state: state, initCode: view.uint8(at: 14), frameWordCount: view.uint16(at: 12),
      depth: view.uint32(at: 16), tableByteCount: view.uint32(at: 52))
  }
}
