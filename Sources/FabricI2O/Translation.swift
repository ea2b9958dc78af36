public import FabricBounded
public import FabricStorage
public import FabricWire

/// What the unit has to know of a device to translate a message to it.
public struct DeviceShape: Equatable, Sendable, BitwiseCopyable {
  public var blockByteCount: UInt32
  @inlinable public init(blockByteCount: UInt32) { self.blockByteCount = blockByteCount }
}

/// A transfer of blocks, as it was asked for: one request to the volume's port, and the pieces that
/// its data goes to or comes from.
public struct BlockTransfer: Equatable, Sendable, BitwiseCopyable {
  /// Without an address and a tag, which are the server's.
  public var operation: BlockOperation
  public var flags: BlockFlags
  public var block: UInt64
  public var blockCount: UInt32
  public var byteCount: UInt32
  /// As the message says it, for the reply to an error.
  public var logicalByteAddress: UInt64
  /// Pieces in the table.
  public var elementCount: Int
  /// Of a write whose pieces lie one behind the other: where in the data the first one begins; nil:
  /// they are to be brought together.
  public var attachedOffset: UInt64?
}

/// An abort, as it was asked for. (IT-60)
public struct AbortRequest: Equatable, Sendable, BitwiseCopyable {
  public var kind: I2O.AbortKind
  public var function: UInt8
  public var transactionContext: UInt32

  /// Whether it is for a message of that function and context. Never for another abort.
  @inlinable
  public func fits(function other: UInt8, transactionContext context: UInt32) -> Bool {
    other != I2O.Function.abort.rawValue
      && (!kind.comparesFunction || other == function)
      && (!kind.comparesTransaction || context == transactionContext)
  }
}

/// What a message comes to. (IT-10 to IT-16)
public enum Translation: Sendable, BitwiseCopyable {
  /// There is nothing to be done, and no reply.
  case nothing
  /// No frame: nothing can be said to it, and the channel ends. (IT-3)
  case unreadable
  /// It is not delivered, and a reply says why. (IT-12)
  case failure(I2O.FailureCode)
  /// It was delivered and says nothing sensible. (IT-13)
  case fault(MessageFault)
  case transfer(BlockTransfer)
  case flush
  case abort(AbortRequest)
  /// The operations lie in the frame, the results go to the pieces in the table.
  case parameters(operationsOffset: Int, byteCount: Int, elementCount: Int, room: UInt64)
  /// The table of devices goes to the pieces in the table, at once or when its indicator is another.
  case table(classIdentifier: UInt32, knownIndicator: UInt32, elementCount: Int, room: UInt64)
  /// The block of status goes to the one piece in the table.
  case status
  /// Replies may be sent; a word that says so goes to the one piece in the table.
  case outbound(frameWordCount: UInt16, initCode: UInt8)
}

/// Makes of a message what is to be done, and does nothing itself: bytes in, instructions out.
public struct FrameTranslator {
  /// Whether the host has said that it takes replies. (IT-21)
  public var isOperational = false

  @inlinable public init() {}

  /// - Parameters:
  ///   - frame: as it came, in memory that nobody else writes to.
  ///   - attached: the data that came with it; may change meanwhile.
  ///   - header: becomes the frame's, unless the verdict is `unreadable`.
  ///   - table: takes the pieces of the scatter list, from `first` on:
  ///     `I2O.maximumElementCount` at most.
  ///   - device: the device of a number, as far as the host may know it.
  public func translate(
    _ frame: WireView, attached: WireView?, header: inout FrameHeader,
    into table: FixedTable<ScatterElement>, from first: Int,
    device: (UInt16) -> DeviceShape?
  ) -> Translation {
    guard frame.byteCount >= I2O.minimumFrameByteCount,
      frame.byteCount <= I2O.maximumFrameByteCount, frame.byteCount % 4 == 0
    else { return .unreadable }
    header = FrameHeader(frame)
    if let code = failure(of: header, byteCount: frame.byteCount) { return .failure(code) }
    var shape: DeviceShape?
    if header.target != I2O.processorTID {
      shape = device(header.target)
      if shape == nil { return .failure(.invalidTarget) }
    }
    let function = I2O.Function(rawValue: header.function)
    if !isOperational {
      switch function {
      case .nop, .statusGet, .outboundInit: break
      default: return .failure(.stateError)
      }
    }
    guard let function else {
      let isKnown = I2O.isKnown(header.function)
      return .fault(MessageFault(isKnown ? .unsupportedFunction : .unknownFunction, at: 7))
    }
    if header.listOffset != function.listOffset { return .failure(.invalidOffset) }
    do throws(MessageFault) {
      return try Request(
        frame: frame, attached: attached, function: function, table: table, first: first
      ).translate(shape)
    } catch {
      return .fault(error)
    }
  }

  /// What keeps a message from being delivered, whatever it asks for. (IT-12)
  private func failure(of header: FrameHeader, byteCount: Int) -> I2O.FailureCode? {
    if header.version != I2O.version { return .invalidVersion }
    if !header.flags.isEmpty { return .invalidFlags }
    let said = Int(header.wordCount) * 4
    if said != byteCount { return said > byteCount ? .frameTooSmall : .frameTooLarge }
    if header.initiator != I2O.hostTID { return .invalidInitiator }
    return nil
  }
}

extension I2O.Function {
  /// Words ahead of the scatter list; 0: there is none.
  public var listOffset: UInt8 {
    switch self {
    case .blockRead, .blockWrite: 8
    case .tableNotify, .outboundInit: 6
    case .parametersGet: 5
    case .nop, .abort, .cacheFlush, .statusGet: 0
    }
  }

  /// Bytes ahead of the scatter list, or of all of it.
  public var fixedByteCount: Int {
    switch self {
    case .nop: 12
    case .abort: 24
    case .cacheFlush: 20
    case .statusGet: 40
    default: Int(listOffset) * 4
    }
  }

  /// Whether it is for the I/O processor, or for devices; nil: for both.
  var isOfProcessor: Bool? {
    switch self {
    case .statusGet, .outboundInit, .tableNotify: true
    case .blockRead, .blockWrite, .cacheFlush: false
    case .nop, .abort, .parametersGet: nil
    }
  }
}
