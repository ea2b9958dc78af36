import CFabricLinux

/// Why a system call failed. The corresponding C variable is `errno`.
public struct Errno: Error, Hashable, Sendable, CustomStringConvertible {
  public let rawValue: CInt

  @inlinable
  public init(rawValue: CInt) { self.rawValue = rawValue }

  /// The calling thread's value, valid right after a failed call.
  public static var current: Errno { Errno(rawValue: fabric_errno()) }

  /// The system's words for it, such as "No such file or directory".
  public var description: String {
    guard let words = unsafe strerror(rawValue) else { return "error \(rawValue)" }
    return unsafe String(cString: words)
  }

  public static let notPermitted = Errno(rawValue: EPERM)
  public static let noSuchFileOrDirectory = Errno(rawValue: ENOENT)
  public static let noSuchDeviceOrAddress = Errno(rawValue: ENXIO)
  public static let notDirectory = Errno(rawValue: ENOTDIR)
  public static let interrupted = Errno(rawValue: EINTR)
  public static let ioError = Errno(rawValue: EIO)
  public static let noMemory = Errno(rawValue: ENOMEM)
  public static let permissionDenied = Errno(rawValue: EACCES)
  public static let fileExists = Errno(rawValue: EEXIST)
  public static let invalidArgument = Errno(rawValue: EINVAL)
  public static let illegalSeek = Errno(rawValue: ESPIPE)
  public static let tooManyOpenFiles = Errno(rawValue: EMFILE)
  public static let noSpace = Errno(rawValue: ENOSPC)
  public static let fileTooLarge = Errno(rawValue: EFBIG)
  public static let quotaExceeded = Errno(rawValue: EDQUOT)
  public static let readOnlyFileSystem = Errno(rawValue: EROFS)
  public static let brokenPipe = Errno(rawValue: EPIPE)
  public static let wouldBlock = Errno(rawValue: EAGAIN)
  public static let fileNameTooLong = Errno(rawValue: ENAMETOOLONG)
  public static let notSupported = Errno(rawValue: EOPNOTSUPP)
  public static let notImplemented = Errno(rawValue: ENOSYS)
  public static let addressInUse = Errno(rawValue: EADDRINUSE)
  public static let connectionAborted = Errno(rawValue: ECONNABORTED)
  public static let connectionReset = Errno(rawValue: ECONNRESET)
  public static let connectionRefused = Errno(rawValue: ECONNREFUSED)
  public static let timedOut = Errno(rawValue: ETIMEDOUT)
  public static let protocolWrongTypeForSocket = Errno(rawValue: EPROTOTYPE)
  public static let inProgress = Errno(rawValue: EINPROGRESS)
  public static let addressFamilyNotSupported = Errno(rawValue: EAFNOSUPPORT)
  public static let addressNotAvailable = Errno(rawValue: EADDRNOTAVAIL)
  public static let networkUnreachable = Errno(rawValue: ENETUNREACH)
  public static let hostUnreachable = Errno(rawValue: EHOSTUNREACH)
  public static let tooManyOpenFilesInSystem = Errno(rawValue: ENFILE)
  public static let noBufferSpace = Errno(rawValue: ENOBUFS)
  public static let notSocket = Errno(rawValue: ENOTSOCK)
  public static let noDevice = Errno(rawValue: ENODEV)

  /// Runs a call that returns a negative number on failure, again after EINTR.
  @discardableResult
  public static func check<Result: SignedInteger>(
    _ call: () -> Result
  ) throws(Errno) -> Result {
    while true {
      let result = call()
      if result >= 0 { return result }
      let error = Errno.current
      if error != .interrupted { throw error }
    }
  }
}
