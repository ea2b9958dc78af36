import CFabricLinux

/// What lies at a path.
public enum FileKind {
  /// Whether `path` itself is a socket.
  public static func isSocket(_ path: String) -> Bool { lies(S_IFSOCK, at: path) }

  /// Whether `path` itself is a symbolic link.
  public static func isSymbolicLink(_ path: String) -> Bool { lies(S_IFLNK, at: path) }

  private static func lies<Kind: BinaryInteger>(_ kind: Kind, at path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0 && status.st_mode & mode_t(S_IFMT) == mode_t(kind)
  }

  /// Where `path` leads, without symbolic links; `path` itself when it leads nowhere.
  public static func resolved(_ path: String) -> String {
    guard let found = unsafe realpath(path, nil) else { return path }
    defer { unsafe free(found) }
    return unsafe String(cString: found)
  }

  /// Whether two paths lead to one file, or would if there were one.
  public static func areSame(_ one: String, _ other: String) -> Bool {
    var (first, second) = (stat(), stat())
    guard unsafe stat(one, &first) == 0, unsafe stat(other, &second) == 0 else {
      return absolutePath(one) == absolutePath(other)
    }
    return first.st_dev == second.st_dev && first.st_ino == second.st_ino
  }

  /// `path` from the root on: one that begins elsewhere begins at the current directory.
  public static func absolutePath(_ path: String) -> String {
    if path.hasPrefix("/") { return path }
    guard let directory = unsafe getcwd(nil, 0) else { return path }
    defer { unsafe free(directory) }
    let start = unsafe String(cString: directory)
    var rest = path[...]
    while rest.hasPrefix("./") { rest = rest.dropFirst(2).drop { $0 == "/" } }
    return start.hasSuffix("/") ? start + rest : "\(start)/\(rest)"
  }

  /// Removes a name that is not a directory; no effect when there is none.
  public static func remove(_ path: String) { _ = unsafe unlink(path) }
}

/// Which file a name means: two names, or one at two times, mean the same file if these are equal.
/// Holds for as long as the file is there or open.
public struct FileIdentity: Equatable, Sendable {
  private let device: UInt64
  private let number: UInt64

  /// Of what lies at `path` itself; nil when nothing does.
  public init?(at path: String) {
    var status = stat()
    guard unsafe lstat(path, &status) == 0 else { return nil }
    device = UInt64(status.st_dev)
    number = UInt64(status.st_ino)
  }
}
