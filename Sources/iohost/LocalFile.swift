import FabricPlatform
import Glibc

/// A file on this machine, or a standard stream where it is named `-`.
///
/// Threads: `read` and `write` at a place come from any.
final class LocalFile: Sendable {
  let path: String
  private let descriptor: Descriptor
  /// nil for a stream.
  let byteCount: UInt64?

  private init(_ path: String, _ descriptor: consuming Descriptor, byteCount: UInt64?) {
    self.path = path
    self.descriptor = descriptor
    self.byteCount = byteCount
  }

  /// Opens a file to be read.
  static func reading(_ path: String) throws -> LocalFile {
    if path == "-" {
      return LocalFile(path, try Descriptor(result: dup(0)), byteCount: nil)
    }
    let descriptor = try open(path, O_RDONLY)
    let byteCount = try size(of: descriptor, path)
    return LocalFile(path, descriptor, byteCount: byteCount)
  }

  /// Makes a file of `byteCount` bytes, or opens one; it keeps what it held until it is written.
  static func writing(_ path: String, byteCount: UInt64) throws -> LocalFile {
    if path == "-" {
      return LocalFile(path, try Descriptor(result: dup(1)), byteCount: nil)
    }
    let descriptor = try open(path, O_RDWR | O_CREAT)
    let number = descriptor.rawValue
    var info = stat()
    let isRegular = unsafe fstat(number, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
    if isRegular, ftruncate(number, off_t(byteCount)) != 0 {
      throw ToolFailure(66, "expected room for \(byteCount) bytes at \(path), got \(Errno.current)")
    }
    return LocalFile(path, descriptor, byteCount: byteCount)
  }

  private static func open(_ path: String, _ flags: CInt) throws -> Descriptor {
    do throws(Errno) {
      return try Descriptor(result: unsafe Glibc.open(path, flags | O_CLOEXEC, 0o644))
    } catch {
      throw ToolFailure(
        66, "expected to open \(path), got \"\(error)\"; check the path and its mode")
    }
  }

  private static func size(of descriptor: borrowing Descriptor, _ path: String) throws -> UInt64 {
    let end = lseek(descriptor.rawValue, 0, SEEK_END)
    guard end >= 0 else { throw ToolFailure(66, "expected a file with a size at \(path)") }
    lseek(descriptor.rawValue, 0, SEEK_SET)
    return UInt64(end)
  }

  /// Fills `bytes` from `offset`, or from where a stream stands; what lies past the end is zero.
  ///
  /// - Returns: how many bytes were there.
  func read(_ bytes: UnsafeMutableRawBufferPointer, at offset: UInt64) throws -> Int {
    var count = 0
    while count < bytes.count {
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: bytes[count...])
      let number = descriptor.rawValue
      let result =
        byteCount == nil
        ? unsafe Glibc.read(number, rest.baseAddress, rest.count)
        : unsafe pread(number, rest.baseAddress, rest.count, off_t(offset) + count)
      if result < 0, Errno.current == .interrupted { continue }
      guard result >= 0 else { throw ToolFailure(66, "reading \(path) failed: \(Errno.current)") }
      if result == 0 { break }
      count += result
    }
    for index in count..<max(count, bytes.count) { unsafe bytes[index] = 0 }
    return count
  }

  /// Writes all of `bytes` at `offset`, or where a stream stands.
  func write(_ bytes: UnsafeRawBufferPointer, at offset: UInt64) throws {
    var count = 0
    while count < bytes.count {
      let rest = unsafe UnsafeRawBufferPointer(rebasing: bytes[count...])
      let number = descriptor.rawValue
      let result =
        byteCount == nil
        ? unsafe Glibc.write(number, rest.baseAddress, rest.count)
        : unsafe pwrite(number, rest.baseAddress, rest.count, off_t(offset) + count)
      if result < 0, Errno.current == .interrupted { continue }
      guard result > 0 else { throw ToolFailure(66, "writing \(path) failed: \(Errno.current)") }
      count += result
    }
  }

  /// Makes what was written survive a loss of power.
  func synchronize() throws {
    guard byteCount != nil else { return }
    guard fsync(descriptor.rawValue) == 0 else {
      throw ToolFailure(66, "writing \(path) to the disk failed: \(Errno.current)")
    }
  }
}
