import FabricCommandLine
import FabricPlatform
import Glibc

/// A file on this machine, or a stream: a pipe, a terminal, `/dev/null`, or a standard stream where
/// it is named `-`.
///
/// Threads: `read` and `write` at a place come from any; of a stream from one.
final class LocalFile: Sendable {
  let path: String
  private let descriptor: Descriptor
  /// nil for a stream.
  let byteCount: UInt64?
  /// Whether it was made to be written.
  private let isNew: Bool

  private init(
    _ path: String, _ descriptor: consuming Descriptor, byteCount: UInt64?, isNew: Bool = false
  ) {
    self.path = path
    self.descriptor = descriptor
    self.byteCount = byteCount
    self.isNew = isNew
  }

  /// Opens a file to be read.
  static func reading(_ path: String) throws(ToolFailure) -> LocalFile {
    if path == "-" { return try standardStream(0, "the standard input") }
    let descriptor = try open(path, O_RDONLY)
    let number = descriptor.rawValue
    var info = stat()
    guard unsafe fstat(number, &info) == 0, info.st_mode & S_IFMT != S_IFDIR else {
      throw ToolFailure(66, "expected a file at \(path), found a directory; name a file inside it")
    }
    guard hasPlaces(info) else { return LocalFile(path, descriptor, byteCount: nil) }
    let end = lseek(number, 0, SEEK_END)
    guard end >= 0 else { throw ToolFailure(66, "expected a file with a size at \(path)") }
    return LocalFile(path, descriptor, byteCount: UInt64(end))
  }

  /// Makes a file of `byteCount` bytes, or opens one; it keeps what it held until it is written.
  static func writing(_ path: String, byteCount: UInt64) throws(ToolFailure) -> LocalFile {
    if path == "-" { return try standardStream(1, "the standard output") }
    var info = stat()
    if unsafe stat(path, &info) == 0, info.st_mode & S_IFMT != S_IFDIR, !hasPlaces(info) {
      return LocalFile(path, try open(path, O_WRONLY), byteCount: nil)
    }
    var isNew = false
    let descriptor = try make(path, &isNew)
    let number = descriptor.rawValue
    let isRegular = unsafe fstat(number, &info) == 0 && info.st_mode & S_IFMT == S_IFREG
    let file = LocalFile(path, descriptor, byteCount: byteCount, isNew: isNew)
    Interruption.fills(path, isNew: isNew)
    if isRegular, ftruncate(number, off_t(byteCount)) != 0 {
      let error = Errno.current
      if isNew { FileKind.remove(path) }
      throw ToolFailure(66, "expected room for \(byteCount) bytes at \(path), got \(error)")
    }
    return file
  }

  /// Fills a file that `writing` has opened. When that fails, or a signal ends the process before,
  /// a file that was made for it goes, and of another the failure says that it is incomplete: by
  /// its size nobody would know.
  func filling(_ body: () async throws -> Void) async throws {
    do {
      try await body()
      Interruption.leaves()
    } catch {
      guard byteCount != nil else { throw error }
      if isNew {
        FileKind.remove(path)
        Interruption.leaves()
        throw error
      }
      let failure = ToolFailure(anything: error)
      throw ToolFailure(failure.code, "\(failure.words); \(path) is incomplete")
    }
  }

  /// Opens a file, or makes one, and says which: what another makes meanwhile is not ours to
  /// remove.
  private static func make(_ path: String, _ isNew: inout Bool) throws(ToolFailure) -> Descriptor {
    do throws(ToolFailure) {
      let descriptor = try open(path, O_RDWR | O_CREAT | O_EXCL)
      isNew = true
      return descriptor
    } catch { return try open(path, O_RDWR | O_CREAT) }
  }

  /// Whether bytes of it have places, as those of files and disks.
  private static func hasPlaces(_ info: stat) -> Bool {
    let kind = info.st_mode & S_IFMT
    return kind == S_IFREG || kind == S_IFBLK
  }

  private static func standardStream(
    _ number: CInt, _ name: String
  ) throws(ToolFailure) -> LocalFile {
    do throws(Errno) {
      return LocalFile(name, try Descriptor(result: dup(number)), byteCount: nil)
    } catch { throw ToolFailure(66, "expected to use \(name), got \"\(error)\"") }
  }

  /// Whether it is where results go, too.
  var isStandardOutput: Bool {
    var own = stat()
    var output = stat()
    let isKnown = unsafe (fstat(descriptor.rawValue, &own), fstat(1, &output)) == (0, 0)
    return isKnown && own.st_dev == output.st_dev && own.st_ino == output.st_ino
  }

  private static func open(_ path: String, _ flags: CInt) throws(ToolFailure) -> Descriptor {
    do throws(Errno) {
      return try Descriptor(result: unsafe Glibc.open(path, flags | O_CLOEXEC, 0o644))
    } catch {
      throw ToolFailure(
        66, "expected to open \(path), got \"\(error)\"; check the path and its mode")
    }
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
