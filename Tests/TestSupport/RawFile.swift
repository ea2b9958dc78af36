import Glibc

/// A file or device that is read and written with plain system calls, from memory that is aligned for
/// direct I/O.
@safe
public final class RawFile {
  private let descriptor: CInt
  private let memory: UnsafeMutableRawBufferPointer

  #if arch(x86_64)
    private static let direct: CInt = 0o40000
  #else
    private static let direct: CInt = 0o200000
  #endif

  /// What a call came to: its result, and `errno` where that is negative.
  public struct Outcome: Equatable, Sendable {
    public let result: Int
    public let error: CInt
    public static func done(_ count: Int) -> Outcome { Outcome(result: count, error: 0) }
    public static func failed(_ error: CInt) -> Outcome { Outcome(result: -1, error: error) }
  }

  /// - Parameter limit: the most bytes of one call.
  public init?(
    _ path: String, isReadOnly: Bool = false, isDirect: Bool = false, limit: Int = 1 << 16
  ) {
    let flags = (isReadOnly ? O_RDONLY : O_RDWR) | (isDirect ? Self.direct : 0) | O_CLOEXEC
    descriptor = unsafe open(path, flags)
    unsafe memory = .allocate(byteCount: limit, alignment: 4096)
    unsafe memory.initializeMemory(as: UInt8.self, repeating: 0)
    if descriptor < 0 { return nil }
  }

  deinit {
    if descriptor >= 0 { Glibc.close(descriptor) }
    unsafe memory.deallocate()
  }

  /// Reads into `bytes`.
  public func read(_ byteCount: Int, at offset: Int) -> Outcome {
    outcome(unsafe pread(descriptor, memory.baseAddress, byteCount, offset))
  }

  /// Writes so many bytes of `value`.
  public func write(_ value: UInt8, count byteCount: Int, at offset: Int) -> Outcome {
    unsafe memset(memory.baseAddress!, CInt(value), byteCount)
    return outcome(unsafe pwrite(descriptor, memory.baseAddress, byteCount, offset))
  }

  /// The byte of the last read or write at a place.
  public subscript(place: Int) -> UInt8 { unsafe memory[place] }

  private func outcome(_ result: Int) -> Outcome {
    result < 0 ? .failed(errno) : .done(result)
  }
}
