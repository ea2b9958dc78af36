/// Numbers of the NBD protocol, by the names that its document gives them.
/// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md)
enum NBD {
  static let serverMagic: UInt64 = 0x4e42_444d_4147_4943
  static let optionMagic: UInt64 = 0x4948_4156_454f_5054
  static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
  static let requestMagic: UInt32 = 0x2560_9513
  static let simpleReplyMagic: UInt32 = 0x6744_6698
  static let structuredReplyMagic: UInt32 = 0x668e_33ef

  static let optionHeaderByteCount = 16
  static let optionReplyHeaderByteCount = 20
  static let requestByteCount = 28
  static let simpleReplyByteCount = 16
  static let chunkHeaderByteCount = 20

  /// The most bytes that a read or a write may move; told to the client. (NBD_INFO_BLOCK_SIZE)
  static let maximumPayloadByteCount: UInt32 = 32 << 20

  /// NBD_FLAG_..., and the client's NBD_FLAG_C_... of the same values.
  enum HandshakeFlags {
    static let fixedNewstyle: UInt32 = 1
    static let noZeroes: UInt32 = 2
  }

  /// NBD_OPT_...
  enum Option {
    static let exportName: UInt32 = 1
    static let abort: UInt32 = 2
    static let list: UInt32 = 3
    static let startTLS: UInt32 = 5
    static let info: UInt32 = 6
    static let go: UInt32 = 7
    static let structuredReply: UInt32 = 8
    static let listMetaContext: UInt32 = 9
    static let setMetaContext: UInt32 = 10
  }

  /// NBD_REP_...
  enum OptionReply {
    static let acknowledge: UInt32 = 1
    static let server: UInt32 = 2
    static let info: UInt32 = 3
    static let metaContext: UInt32 = 4
    static let unsupported: UInt32 = 1 << 31 | 1
    static let invalid: UInt32 = 1 << 31 | 3
    static let unknown: UInt32 = 1 << 31 | 6
    static let tooBig: UInt32 = 1 << 31 | 9
  }

  /// NBD_INFO_...
  enum Info {
    static let export: UInt16 = 0
    static let name: UInt16 = 1
    static let description: UInt16 = 2
    static let blockSize: UInt16 = 3
  }

  /// NBD_FLAG_..., of an export.
  struct TransmissionFlags: OptionSet {
    let rawValue: UInt16
    static let hasFlags = Self(rawValue: 1)
    static let readOnly = Self(rawValue: 1 << 1)
    static let flush = Self(rawValue: 1 << 2)
    static let forceUnitAccess = Self(rawValue: 1 << 3)
    static let trim = Self(rawValue: 1 << 5)
    static let writeZeroes = Self(rawValue: 1 << 6)
    static let doNotFragment = Self(rawValue: 1 << 7)
    static let multipleConnections = Self(rawValue: 1 << 8)
    static let cache = Self(rawValue: 1 << 10)
    static let fastZero = Self(rawValue: 1 << 11)
  }

  /// NBD_CMD_...
  enum Command: UInt16 {
    case read = 0
    case write
    case disconnect
    case flush
    case trim
    case cache
    case writeZeroes
    case blockStatus
  }

  /// NBD_CMD_FLAG_...
  struct CommandFlags: OptionSet, BitwiseCopyable {
    let rawValue: UInt16
    static let forceUnitAccess = Self(rawValue: 1)
    static let noHole = Self(rawValue: 1 << 1)
    static let doNotFragment = Self(rawValue: 1 << 2)
    static let onlyOne = Self(rawValue: 1 << 3)
    static let fastZero = Self(rawValue: 1 << 4)

    // What some commands allow; not put together for each request.
    static let ofReads: Self = [.forceUnitAccess, .doNotFragment]
    static let ofZeroes: Self = [.forceUnitAccess, .noHole, .fastZero]
    static let ofStatus: Self = [.forceUnitAccess, .onlyOne]
  }

  /// NBD_REPLY_FLAG_DONE
  static let replyIsDone: UInt16 = 1

  /// NBD_REPLY_TYPE_...
  enum Chunk {
    static let none: UInt16 = 0
    static let offsetData: UInt16 = 1
    static let offsetHole: UInt16 = 2
    static let blockStatus: UInt16 = 5
    static let error: UInt16 = 1 << 15 | 1
    static let errorOffset: UInt16 = 1 << 15 | 2
  }

  /// The one metadata context, and the number that we give it.
  static let allocationContext = "base:allocation"
  static let allocationContextNumber: UInt32 = 1

  /// NBD_STATE_HOLE and NBD_STATE_ZERO
  static let holeThatReadsZero: UInt32 = 3

  /// What the error field of a reply may say.
  enum ErrorCode: UInt32 {
    case notPermitted = 1
    case inputOutput = 5
    case noMemory = 12
    case invalid = 22
    case noSpace = 28
    case overflow = 75
    case notSupported = 95
    case shutdown = 108
  }
}
