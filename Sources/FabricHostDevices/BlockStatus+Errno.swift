import CFabricLinux
import FabricStorage

extension BlockStatus {
  /// What the kernel is told of a request's end: 0 for success, otherwise a number of `errno`. The
  /// kernel's block layer makes its own status of it (HD-14).
  func errorNumber(of operation: BlockOperation) -> CInt {
    switch self {
    case .success: 0
    case .invalidField: EINVAL
    // What a disk answers that is written beyond its end.
    case .lbaOutOfRange: operation.isModifying ? ENOSPC : EIO
    case .readOnly: EROFS
    // A medium error, which others do not try again on another path.
    case .mediaReadError: ENODATA
    case .compareFailure: EILSEQ
    case .capacityExceeded: ENOSPC
    case .unsupported: EOPNOTSUPP
    case .mediaWriteError, .flushFailed, .aborted, .internalError: EIO
    }
  }
}
