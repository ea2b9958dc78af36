public import FabricStorage

/// A response's status on the wire: status code type and status code of NVM Express, as
/// `type << 8 | code`. (IO-34)
public struct StatusCode: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt16

  @inlinable
  public init(rawValue: UInt16) { self.rawValue = rawValue }

  @inlinable
  public init(_ status: BlockStatus) {
    rawValue =
      switch status {
      case .success: 0x0000
      case .unsupported: 0x0001
      case .invalidField: 0x0002
      case .internalError: 0x0006
      case .aborted: 0x0007
      case .lbaOutOfRange: 0x0080
      case .capacityExceeded: 0x0081
      case .readOnly: 0x0182
      case .mediaWriteError: 0x0280
      case .mediaReadError: 0x0281
      case .compareFailure: 0x0285
      case .flushFailed: 0x07C0
      }
  }

  /// The status it stands for; `internalError` for a code that this release does not know.
  public var status: BlockStatus {
    switch rawValue {
    case 0x0000: .success
    case 0x0001: .unsupported
    case 0x0002: .invalidField
    case 0x0007: .aborted
    case 0x0080: .lbaOutOfRange
    case 0x0081: .capacityExceeded
    case 0x0182: .readOnly
    case 0x0280: .mediaWriteError
    case 0x0281: .mediaReadError
    case 0x0285: .compareFailure
    case 0x07C0: .flushFailed
    default: .internalError
    }
  }
}
