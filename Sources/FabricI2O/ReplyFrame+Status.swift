public import FabricStorage

extension ReplyFrame {
  /// The reply to a transfer or a flush that has ended. (IT-44)
  ///
  /// - Parameters:
  ///   - transferred: bytes that were moved.
  ///   - address: of the transfer's first byte on the device.
  public init(
    _ status: BlockStatus, of operation: BlockOperation, transferred: UInt32, address: UInt64
  ) {
    let isRead = operation == .read
    let code: I2O.BlockStatusCode
    var reply: I2O.ReplyStatus = isRead ? .errorNoDataTransfer : .errorDirty
    switch status {
    case .success:
      self = .success(transferCount: transferred)
      return
    case .mediaReadError, .mediaWriteError: code = .mediaError
    case .lbaOutOfRange:
      code = .accessError
      reply = .errorNoDataTransfer
    case .readOnly:
      code = .writeProtected
      reply = .errorNoDataTransfer
    case .capacityExceeded: code = .mediaFailure
    case .invalidField, .unsupported, .compareFailure:
      code = .protocolFailure
      reply = .errorNoDataTransfer
    case .aborted:
      code = .success
      reply = .abortNoDataTransfer
    case .flushFailed, .internalError: code = .deviceFailure
    }
    if isRead, transferred > 0 {
      reply = reply == .abortNoDataTransfer ? .abortPartialTransfer : .errorPartialTransfer
    }
    self = .error(
      reply, code, transferCount: transferred,
      logicalByteAddress: address &+ UInt64(transferred))
  }

  /// What a host makes of it, and how many bytes were moved.
  public func status(of operation: BlockOperation) -> (status: BlockStatus, transferred: UInt32) {
    switch self {
    case .success(let count): (.success, count)
    case .error(let reply, let code, let count, _):
      (Self.status(reply, code, of: operation), count)
    case .fault(let fault):
      (fault.status == .insufficientResource ? .internalError : .invalidField, 0)
    case .failure, .aborted: (.internalError, 0)
    }
  }

  private static func status(
    _ reply: I2O.ReplyStatus, _ code: I2O.BlockStatusCode, of operation: BlockOperation
  ) -> BlockStatus {
    switch reply {
    case .abortDirty, .abortNoDataTransfer, .abortPartialTransfer: return .aborted
    default: break
    }
    switch code {
    case .success: return .internalError
    case .mediaError: return operation == .read ? .mediaReadError : .mediaWriteError
    case .accessError: return .lbaOutOfRange
    case .writeProtected: return .readOnly
    case .mediaFailure: return .capacityExceeded
    case .protocolFailure: return .unsupported
    case .deviceFailure: return operation == .flush ? .flushFailed : .internalError
    }
  }
}
