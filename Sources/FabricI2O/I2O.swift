/// Names and numbers of the I2O architecture (version 1.5, chapters 3, 4 and 6), as far as this
/// module speaks it. The clauses are in `Specs/I2O.md`.
public enum I2O {
  /// Version 1.5 in the low three bits of a frame's first byte.
  public static let version: UInt8 = 1
  /// The channel's kind of every message that carries a frame. (IT-2)
  public static let messageKind: UInt16 = 0x1200
  /// The longest frame, in bytes. (IT-3)
  public static let maximumFrameByteCount = 512
  /// The shortest frame that can be answered: up to the initiator's context. (IT-3)
  public static let minimumFrameByteCount = 12
  /// Frames that a host must take in reply, in words: the longest of them. (IT-21)
  public static let replyFrameWordCount: UInt16 = 8
  /// The elements of one scatter list that move data, and those of any kind. (IT-35)
  public static let maximumElementCount = 64
  public static let maximumListedElementCount = 256

  /// The I/O processor itself, and the host.
  public static let processorTID: UInt16 = 0
  public static let hostTID: UInt16 = 1
  /// The first device; the last one is `lastDeviceTID`.
  public static let firstDeviceTID: UInt16 = 8
  public static let lastDeviceTID: UInt16 = 0xFFE
  /// In the table of devices: nobody has claimed it.
  public static let noTID: UInt16 = 0xFFF
  /// The class of the devices here.
  public static let randomBlockStorage: UInt16 = 0x010
  /// Asks for devices of every class.
  public static let anyClass: UInt32 = 0xFFFF_FFFF

  /// What a message asks for.
  public enum Function: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    case nop = 0x00
    case abort = 0x01
    case parametersGet = 0x06
    case blockRead = 0x30
    case blockWrite = 0x31
    case cacheFlush = 0x37
    case statusGet = 0xA0
    case outboundInit = 0xA1
    case tableNotify = 0xA2
  }

  /// Functions of the architecture that are not offered here: utilities, those of block storage and
  /// the executive's. (IT-14)
  @inlinable
  public static func isKnown(_ function: UInt8) -> Bool {
    switch function {
    case 0x05, 0x09, 0x0B, 0x0D, 0x0F, 0x10, 0x13, 0x14, 0x15, 0x17, 0x19: true
    case 0x25, 0x27, 0x33, 0x35, 0x41, 0x43, 0x45, 0x49, 0x4B, 0x70, 0x71: true
    case 0xA3...0xBE: true
    case 0xC1, 0xC3, 0xC5, 0xC7, 0xC9, 0xCA, 0xD1, 0xD3, 0xD5, 0xD7, 0xD9, 0xDD, 0xDF, 0xFF: true
    default: false
    }
  }

  /// The second byte of a frame.
  public struct MessageFlags: OptionSet, Sendable, BitwiseCopyable {
    public let rawValue: UInt8
    @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }
    public static let fail = MessageFlags(rawValue: 0x20)
    public static let last = MessageFlags(rawValue: 0x40)
    public static let reply = MessageFlags(rawValue: 0x80)
    /// Of a reply, and of one that says that the message was not delivered.
    @inlinable public static var answer: MessageFlags { MessageFlags(rawValue: 0xC0) }
    @inlinable public static var failed: MessageFlags { MessageFlags(rawValue: 0xE0) }
  }

  /// How a request ended. (Table 3-1)
  public enum ReplyStatus: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    case success = 0x00
    case abortDirty = 0x01
    case abortNoDataTransfer = 0x02
    case abortPartialTransfer = 0x03
    case errorDirty = 0x04
    case errorNoDataTransfer = 0x05
    case errorPartialTransfer = 0x06
    case transactionError = 0x0B
  }

  /// What was wrong with a message, in a reply of status `transactionError`. (Table 3-2)
  public enum DetailedStatus: UInt16, Sendable, CaseIterable, BitwiseCopyable {
    case success = 0x0000
    case replyBufferFull = 0x0004
    case insufficientResource = 0x0006
    case chainBufferTooLarge = 0x0009
    case unsupportedFunction = 0x000A
    case inappropriateFunction = 0x000D
    case invalidParameter = 0x0011
    case messageTooLarge = 0x0014
    case messageTooSmall = 0x0015
    case missingParameter = 0x0016
    case unknownFunction = 0x0019
    case deviceNotAvailable = 0x001C
  }

  /// How a transfer of blocks failed, in replies of every other status. (Table 6-7)
  public enum BlockStatusCode: UInt16, Sendable, CaseIterable, BitwiseCopyable {
    case success = 0x0000
    case mediaError = 0x0001
    case accessError = 0x0002
    case deviceFailure = 0x0003
    case mediaFailure = 0x0007
    case protocolFailure = 0x0008
    case writeProtected = 0x000B
  }

  /// Why a message could not be delivered. (Table 3-3)
  public enum FailureCode: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    case stateError = 0x85
    case invalidVersion = 0x88
    case invalidOffset = 0x89
    case invalidFlags = 0x8A
    case frameTooSmall = 0x8B
    case frameTooLarge = 0x8C
    case invalidTarget = 0x8D
    case invalidInitiator = 0x8E

    /// 1: the frame's format; 4: the way's state.
    @inlinable public var severity: UInt8 { self == .stateError ? 4 : 1 }
  }

  /// Which messages an abort is for. The clean kinds are the same here. (IT-60)
  public enum AbortKind: UInt8, Sendable, CaseIterable, BitwiseCopyable {
    case exact = 0
    case function = 1
    case transaction = 2
    case wild = 3
    case cleanExact = 4
    case cleanFunction = 5
    case cleanTransaction = 6
    case cleanWild = 7

    /// Whether the function, and whether the transaction, must be those that the abort names.
    @inlinable public var comparesFunction: Bool { rawValue & 3 <= 1 }
    @inlinable public var comparesTransaction: Bool { rawValue & 1 == 0 }
  }

  /// Flags of a block write.
  public enum WriteFlags {
    public static let dontRetry: UInt16 = 0x0001
    public static let solo: UInt16 = 0x0002
    public static let dontCache: UInt16 = 0x0004
    public static let writeThrough: UInt16 = 0x0008
    public static let writeTo: UInt16 = 0x0010
    public static let progressReport: UInt16 = 0x0080
  }

  /// States of the I/O processor. (4.4.1)
  public enum ProcessorState: UInt8, Sendable, BitwiseCopyable {
    /// Replies have no place yet.
    case reset = 0x02
    case operational = 0x08
  }

  /// What is written to a host's word by `outboundInit`.
  public enum OutboundStatus: UInt32, Sendable {
    case rejected = 2
    case complete = 4
  }
}
