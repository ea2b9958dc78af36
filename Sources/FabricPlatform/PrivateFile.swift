import CFabricLinux

/// Files that hold what others must not know.
public enum PrivateFile {
  /// What the file holds.
  ///
  /// - Throws: `.illegalSeek` when it is no regular file, a pipe for example; `.permissionDenied`
  ///   also when others than the owner may read or write it, or its owner is neither the calling
  ///   user nor root; `.fileTooLarge` beyond `limit` bytes; `.invalidArgument` when it is not UTF-8.
  public static func text(_ path: String, limit: Int) throws(Errno) -> String {
    let file = try unsafe Descriptor(result: fabric_open_read_at_once(path))
    let number = file.rawValue
    var status = stat()
    try Errno.check { unsafe fstat(number, &status) }
    guard Int(status.st_mode) & Int(S_IFMT) == Int(S_IFREG) else { throw .illegalSeek }
    guard status.st_mode & 0o077 == 0, status.st_uid == geteuid() || status.st_uid == 0 else {
      throw .permissionDenied
    }
    var bytes: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 4096)
    while true {
      let count = try Errno.check {
        unsafe buffer.withUnsafeMutableBytes { unsafe read(number, $0.baseAddress, $0.count) }
      }
      if count == 0 { break }
      bytes += buffer[..<count]
      guard bytes.count <= limit else { throw .fileTooLarge }
    }
    guard let text = String(validating: bytes, as: UTF8.self) else { throw .invalidArgument }
    return text
  }
}
