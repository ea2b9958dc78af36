import CFabricLinux
import FabricStorage

/// A directory that goes with the object.
final class TemporaryDirectory: Sendable {
  let path: String

  /// - Parameter parent: where; `/var/tmp` is on a disk wherever it can be.
  init(in parent: String = "/var/tmp") {
    path = "\(parent)/fabric-storage-\(VolumeIdentifier.random())"
    let result = unsafe mkdir(path, 0o700)
    precondition(result == 0, "cannot make \(path)")
  }

  deinit {
    for name in ["volume", "volume.fabric", "volume.fabric.new", "other", "other.fabric"] {
      _ = unsafe unlink(file(name))
    }
    _ = unsafe rmdir(path)
  }

  func file(_ name: String = "volume") -> String { "\(path)/\(name)" }
}

/// What the machine allows the tests to do.
enum Machine {
  static let isRoot = geteuid() == 0
  static let hasSharedMemory = unsafe access("/dev/shm", W_OK) == 0
}

/// Bytes of disk that a file takes.
func allocatedByteCount(_ path: String) -> Int {
  var info = stat()
  guard unsafe stat(path, &info) == 0 else { return -1 }
  return Int(info.st_blocks) * 512
}
