/// Numbers of the NBD protocol, by the names that its document gives them.
/// (https://github.com/NetworkBlockDevice/nbd/blob/master/doc/proto.md)
package enum NBD {
  package static let serverMagic: UInt64 = 0x4e42_444d_4147_4943
  package static let optionMagic: UInt64 = 0x4948_4156_454f_5054
  package static let optionReplyMagic: UInt64 = 0x0003_e889_0455_65a9
  package static let requestMagic: UInt32 = 0x2560_9513
  package static let simpleReplyMagic: UInt32 = 0x6744_6698
  package static let structuredReplyMagic: UInt32 = 0x668e_33ef

  package static let optionHeaderByteCount = 16
  package static let optionReplyHeaderByteCount = 20
  package static let requestByteCount = 28
  package static let simpleReplyByteCount = 16
  package static let chunkHeaderByteCount = 20

  /// The most bytes that a read or a write may move; told to the client. (NBD_INFO_BLOCK_SIZE)
  package static let maximumPayloadByteCount: UInt32 = 32 << 20

  /// NBD_FLAG_..., and the client's NBD_FLAG_C_... of the same values.
  package enum HandshakeFlags {
    package static let fixedNewstyle: UInt32 = 1
    package static let noZeroes: UInt32 = 2
  }

  /// NBD_OPT_...
  package enum Option {
    package static let exportName: UInt32 = 1
    package static let abort: UInt32 = 2
    package static let list: UInt32 = 3
    package static let startTLS: UInt32 = 5
    package static let info: UInt32 = 6
    package static let go: UInt32 = 7
    package static let structuredReply: UInt32 = 8
    package static let listMetaContext: UInt32 = 9
    package static let setMetaContext: UInt32 = 10
  }

  /// NBD_REP_...
  package enum OptionReply {
    package static let acknowledge: UInt32 = 1
    package static let server: UInt32 = 2
    package static let info: UInt32 = 3
    package static let metaContext: UInt32 = 4
    package static let unsupported: UInt32 = 1 << 31 | 1
    package static let invalid: UInt32 = 1 << 31 | 3
    package static let unknown: UInt32 = 1 << 31 | 6
    package static let tooBig: UInt32 = 1 << 31 | 9
  }

  /// NBD_INFO_...
  package enum Info {
    package static let export: UInt16 = 0
    package static let name: UInt16 = 1
    package static let description: UInt16 = 2
    package static let blockSize: UInt16 = 3
  }

  /// NBD_FLAG_..., of an export.
  package struct TransmissionFlags: OptionSet {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let hasFlags = Self(rawValue: 1)
    package static let readOnly = Self(rawValue: 1 << 1)
    package static let flush = Self(rawValue: 1 << 2)
    package static let forceUnitAccess = Self(rawValue: 1 << 3)
    package static let trim = Self(rawValue: 1 << 5)
    package static let writeZeroes = Self(rawValue: 1 << 6)
    package static let doNotFragment = Self(rawValue: 1 << 7)
    package static let multipleConnections = Self(rawValue: 1 << 8)
    package static let cache = Self(rawValue: 1 << 10)
    package static let fastZero = Self(rawValue: 1 << 11)
  }

  /// NBD_CMD_...
  package enum Command: UInt16, BitwiseCopyable {
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
  package struct CommandFlags: OptionSet, BitwiseCopyable {
    package let rawValue: UInt16
    package init(rawValue: UInt16) { self.rawValue = rawValue }
    package static let forceUnitAccess = Self(rawValue: 1)
    package static let noHole = Self(rawValue: 1 << 1)
    package static let doNotFragment = Self(rawValue: 1 << 2)
    package static let onlyOne = Self(rawValue: 1 << 3)
    package static let fastZero = Self(rawValue: 1 << 4)

    // What some commands allow; not put together for each request.
    package static let ofReads: Self = [.forceUnitAccess, .doNotFragment]
    package static let ofZeroes: Self = [.forceUnitAccess, .noHole, .fastZero]
    package static let ofStatus: Self = [.forceUnitAccess, .onlyOne]
  }

  /// NBD_REPLY_FLAG_DONE
  package static let replyIsDone: UInt16 = 1

  /// NBD_REPLY_TYPE_...
  package enum Chunk {
    package static let none: UInt16 = 0
    package static let offsetData: UInt16 = 1
    package static let offsetHole: UInt16 = 2
    package static let blockStatus: UInt16 = 5
    package static let error: UInt16 = 1 << 15 | 1
    package static let errorOffset: UInt16 = 1 << 15 | 2
  }

  /// The one metadata context, and the number that we give it.
  package static let allocationContext = "base:allocation"
  package static let allocationContextNumber: UInt32 = 1

  /// NBD_STATE_HOLE and NBD_STATE_ZERO
  package static let holeThatReadsZero: UInt32 = 3

  /// What the error field of a reply may say.
  package enum ErrorCode: UInt32 {
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
