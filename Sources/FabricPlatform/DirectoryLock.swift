import CFabricLinux

/// A lock on the directory that a path lies in, held as long as the object lives: who holds it may
/// look at a name and then act on what it saw. Only those who ask for it heed it. The corresponding C
/// call is `flock` of the directory; the kernel lets go of it when the process ends.
public struct DirectoryLock: ~Copyable, Sendable {
  private let descriptor: Descriptor

  /// Locks the directory of `path`.
  ///
  /// - Throws: `.wouldBlock` when somebody else holds it for all of `patience`; else why the
  ///   directory cannot be opened or locked.
  public init(around path: String, patience: Duration) throws(Errno) {
    let slash = path.lastIndex(of: "/")
    let directory = slash.map { String(path[...$0]) } ?? "."
    let opened = try unsafe Descriptor(result: fabric_open_read(directory))
    let deadline = MonotonicTime.now + patience
    while fabric_try_lock_file(opened.rawValue) != 0 {
      let error = Errno.current
      if error == .interrupted { continue }
      guard error == .wouldBlock, MonotonicTime.now < deadline else { throw error }
      SystemThread.sleep(milliseconds: 1)
    }
    descriptor = opened
  }
}
