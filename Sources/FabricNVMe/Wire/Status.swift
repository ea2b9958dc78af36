public import FabricStorage

/// How a command ended: status code type and status code. (Base 1.4, section 4.6.1)
public struct Status: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  /// The type in the high byte, the code in the low one.
  public let rawValue: UInt16

  public init(rawValue: UInt16) { self.rawValue = rawValue }
  private init(_ type: UInt16, _ code: UInt16) { rawValue = type << 8 | code }

  // Generic.
  public static let success = Status(0, 0x00)
  public static let invalidOpcode = Status(0, 0x01)
  public static let invalidField = Status(0, 0x02)
  public static let internalError = Status(0, 0x06)
  public static let abortRequested = Status(0, 0x07)
  public static let invalidNamespace = Status(0, 0x0B)
  public static let commandSequenceError = Status(0, 0x0C)
  public static let dataLengthInvalid = Status(0, 0x0F)
  public static let descriptorTypeInvalid = Status(0, 0x11)
  public static let offsetInvalid = Status(0, 0x16)
  public static let writeProtected = Status(0, 0x20)
  public static let transientTransportError = Status(0, 0x22)
  public static let lbaOutOfRange = Status(0, 0x80)
  public static let capacityExceeded = Status(0, 0x81)

  // Of certain commands.
  public static let asynchronousEventRequestLimit = Status(1, 0x05)
  public static let invalidLogPage = Status(1, 0x09)
  public static let featureNotSaveable = Status(1, 0x0D)
  public static let featureNotChangeable = Status(1, 0x0E)
  public static let connectIncompatibleFormat = Status(1, 0x80)
  public static let connectControllerBusy = Status(1, 0x81)
  public static let connectInvalidParameters = Status(1, 0x82)
  public static let connectInvalidHost = Status(1, 0x84)
  public static let connectInvalidQueueType = Status(1, 0x85)

  // Of the medium.
  public static let writeFault = Status(2, 0x80)
  public static let unrecoveredReadError = Status(2, 0x81)
  public static let compareFailure = Status(2, 0x85)

  /// Whether asking again is in vain: what is wrong is in the command. (Do Not Retry)
  public var isFinal: Bool {
    switch self {
    case .success, .internalError, .abortRequested, .transientTransportError, .writeFault,
      .connectControllerBusy, .capacityExceeded:
      false
    default: true
    }
  }

  /// What a store's status is called here.
  @inline(__always)
  public init(_ status: BlockStatus) {
    self = status == .success ? .success : Self.named(status)
  }

  private static func named(_ status: BlockStatus) -> Status {
    switch status {
    case .success: .success
    case .invalidField: .invalidField
    case .lbaOutOfRange: .lbaOutOfRange
    case .readOnly: .writeProtected
    case .mediaReadError: .unrecoveredReadError
    case .mediaWriteError, .flushFailed: .writeFault
    case .compareFailure: .compareFailure
    case .capacityExceeded: .capacityExceeded
    case .aborted: .abortRequested
    case .unsupported: .invalidOpcode
    case .internalError: .internalError
    }
  }
}
