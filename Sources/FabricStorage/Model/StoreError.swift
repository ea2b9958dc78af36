public import FabricPlatform

/// Why a store could not be opened or used. Each description says what was expected, what came and
/// what to do.
public enum StoreError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Nothing is at the path and no size to create it with was given.
  case missing(path: String)
  /// The directory that the file is to be in is not there.
  case directoryMissing(path: String)
  /// The file cannot be made.
  case notCreatable(path: String, reason: Errno)
  /// The path, or a directory on the way to it, may not be used by this user.
  case notReadable(path: String, reason: Errno)
  /// The file or its directory may only be read.
  case notWritable(path: String, reason: Errno)
  /// A directory is at the path.
  case isDirectory(path: String)
  /// Neither a regular file nor a block device is at the path.
  case notFileOrDevice(path: String)
  /// The file holds nothing.
  case empty(path: String)
  /// The size asked for is not a whole number of blocks.
  case sizeNotWhole(byteCount: UInt64, blockByteCount: UInt32)
  /// The size found is not a whole number of blocks.
  case sizeNotMultiple(path: String, byteCount: UInt64, blockByteCount: UInt32)
  /// Blocks are neither 512 nor 4096 bytes.
  case blockSizeNotSupported(blockByteCount: UInt32)
  /// The volume was made with another block size.
  case blockSizeDiffers(path: String, recorded: UInt32, requested: UInt32)
  /// Another process, or another store of this one, serves the file.
  case locked(path: String)
  /// The device is mounted or part of another device.
  case deviceInUse(path: String)
  /// The file system has no room.
  case noSpace(path: String, byteCount: UInt64)
  /// The memory that was to hold the volume cannot be had, or not be given to a fabric: why, and what to do.
  case memoryRefused(byteCount: UInt64, reason: String)
  /// The file system, or the limit on this process's files, allows only smaller ones.
  case fileTooLarge(path: String, byteCount: UInt64)
  /// The sibling file that names the volume is not one, or is damaged.
  case metadataCorrupt(path: String, detail: String)
  /// A volume was to be made where the sibling file of a volume that is gone still lies.
  case metadataWithoutVolume(path: String, metadataPath: String)
  /// The sibling file that names the volume cannot be written.
  case metadataNotWritable(path: String, reason: Errno)
  /// The kernel refused an io_uring.
  case ringUnavailable(reason: Errno)
  /// A system call that should not fail did.
  case systemCall(name: String, path: String, reason: Errno)
  /// A queue depth outside 1 to 32768.
  case depthNotSupported(Int)

  public var description: String {
    switch self {
    case .missing(let path):
      "expected a file or block device at \(path), found nothing; "
        + "give a size to create it, or correct the path"
    case .directoryMissing(let path):
      "expected a directory to keep \(path) in, found none; make it, or correct the path"
    case .notCreatable(let path, let reason):
      "expected to make \(path), got \"\(reason)\"; check its directory's owner and mode, or "
        + "choose another path"
    case .notReadable(let path, let reason):
      "expected to read \(path), got \"\(reason)\"; check its owner and mode"
    case .notWritable(let path, let reason):
      "expected to write \(path), got \"\(reason)\"; "
        + "check its owner and mode, or serve it read-only"
    case .isDirectory(let path):
      "expected a file or block device at \(path), found a directory; name a file inside it"
    case .notFileOrDevice(let path):
      "expected a regular file or block device at \(path), found something else; "
        + "correct the path"
    case .empty(let path):
      "expected a volume at \(path), found an empty file; "
        + "remove it and give a size, or make it larger"
    case .sizeNotWhole(let byteCount, let blockByteCount):
      "expected a size of whole blocks of \(blockByteCount) bytes, got \(byteCount); "
        + "give \(Self.roundedUp(byteCount, blockByteCount))"
        + Self.orSmallerBlock(byteCount, blockByteCount)
    case .sizeNotMultiple(let path, let byteCount, let blockByteCount):
      "expected \(path) to be a multiple of \(blockByteCount) bytes long, found \(byteCount); "
        + "extend it to \(Self.roundedUp(byteCount, blockByteCount))"
        + Self.orSmallerBlock(byteCount, blockByteCount)
    case .blockSizeNotSupported(let blockByteCount):
      "expected blocks of 512 or 4096 bytes, got \(blockByteCount)"
    case .blockSizeDiffers(let path, let recorded, let requested):
      "expected \(path) to have blocks of \(requested) bytes, it was made with \(recorded); "
        + "leave the block size out"
    case .locked(let path):
      "expected \(path) to be free, another process serves it; "
        + "stop that one, or wait until its last request has ended"
    case .deviceInUse(let path):
      "expected \(path) to be free, it is mounted or in use by the kernel; unmount it first"
    case .noSpace(let path, let byteCount):
      "expected room for \(ByteSize.describe(byteCount)) at \(path), "
        + "the file system has less; make room or give a smaller size"
    case .memoryRefused(let byteCount, let reason):
      "expected \(byteCount) bytes of memory for a volume, got none: \(reason)"
    case .fileTooLarge(let path, let byteCount):
      "expected to make \(path) of \(ByteSize.describe(byteCount)), files may not be that large; "
        + "raise the limit (ulimit -f), give a smaller size or choose another file system"
    case .metadataCorrupt(let path, let detail):
      "expected a volume description in \(path), \(detail); restore it from a copy, or move it "
        + "away to get a new volume identity without marks"
    case .metadataWithoutVolume(let path, let metadataPath):
      "expected no trace of an older volume where \(path) is to be made, found \(metadataPath); "
        + "restore the older volume, or remove that file"
    case .metadataNotWritable(let path, let reason):
      "expected to write \(path), got \"\(reason)\"; \(Self.advice(on: reason))"
    case .ringUnavailable(let reason):
      "expected an io_uring, got \"\(reason)\"; check kernel.io_uring_disabled, "
        + "the container's system call filter and the descriptor limit"
    case .systemCall(let name, let path, let reason):
      "\(name) failed on \(path): \(reason)"
    case .depthNotSupported(let depth):
      "expected a queue depth of 1 to 32768, got \(depth)"
    }
  }

  /// Whether it is the disk that is full.
  var isOutOfSpace: Bool {
    switch self {
    case .noSpace: true
    case .metadataNotWritable(_, let reason):
      [.noSpace, .quotaExceeded, .fileTooLarge].contains(reason)
    default: false
    }
  }

  /// What to do about a file that cannot be written.
  private static func advice(on reason: Errno) -> String {
    switch reason {
    case .noSpace, .quotaExceeded: "make room on its file system"
    case .fileTooLarge: "raise the limit on the size of files (ulimit -f)"
    case .tooManyOpenFiles: "raise the limit on open files (ulimit -n)"
    case .noSuchFileOrDirectory: "make its directory"
    case .ioError: "check its disk"
    default: "make its directory writable"
    }
  }

  /// A way out only where the smaller block fits.
  private static func orSmallerBlock(_ byteCount: UInt64, _ blockByteCount: UInt32) -> String {
    blockByteCount > 512 && byteCount.isMultiple(of: 512) ? ", or use blocks of 512" : ""
  }

  private static func roundedUp(_ byteCount: UInt64, _ blockByteCount: UInt32) -> UInt64 {
    let block = UInt64(blockByteCount)
    return (byteCount / block + 1) * block
  }
}
