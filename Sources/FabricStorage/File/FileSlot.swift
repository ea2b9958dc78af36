import CFabricURing

/// One request under way in a file queue.
struct FileSlot: BitwiseCopyable {
  /// What the entry in the ring is doing.
  enum Phase: UInt8, BitwiseCopyable {
    /// Reads or writes data, piece by piece.
    case transfer
    /// Punches or zeroes a range.
    case allocate
    /// Writes zeroes, where the file system cannot do it by itself.
    case zeroFill
    /// Waits for the disk.
    case sync
  }

  var request = BlockRequest(.flush)
  /// Bytes to move before the end: the request's, or fewer when a block of it is unreadable.
  var limit: UInt64 = 0
  /// Bytes moved.
  var done: UInt64 = 0
  /// The status when `limit` is reached.
  var outcome = BlockStatus.success
  var phase = Phase.transfer
  var usesBounce = false
  /// Times in a row that the kernel made no progress.
  var stallCount: UInt16 = 0

  /// So many stalls in a row are a failure.
  static let maximumStallCount: UInt16 = 1000
}

extension BlockStatus {
  /// What a negated errno means for an operation.
  init(failure result: Int32, of operation: BlockOperation) {
    switch -result {
    case ENOSPC, EDQUOT, EFBIG: self = .capacityExceeded
    case ECANCELED: self = .aborted
    case EROFS, EPERM, EBADF: self = operation.isModifying ? .readOnly : .internalError
    case EOPNOTSUPP: self = .unsupported
    case EIO, EREMOTEIO, ENODATA, EILSEQ, ETIMEDOUT, ENOLINK, EBADE, ENXIO, ENODEV:
      switch operation {
      case .read, .compare: self = .mediaReadError
      case .flush: self = .flushFailed
      default: self = .mediaWriteError
      }
    default: self = operation == .flush ? .flushFailed : .internalError
    }
  }
}
