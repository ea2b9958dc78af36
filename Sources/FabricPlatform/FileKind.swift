import CFabricLinux

/// What lies at a path.
public enum FileKind {
  /// Whether `path` itself is a socket.
  public static func isSocket(_ path: String) -> Bool {
    var status = stat()
    return unsafe lstat(path, &status) == 0 && status.st_mode & mode_t(S_IFMT) == mode_t(S_IFSOCK)
  }

  /// Removes a name that is not a directory; no effect when there is none.
  public static func remove(_ path: String) { _ = unsafe unlink(path) }
}
