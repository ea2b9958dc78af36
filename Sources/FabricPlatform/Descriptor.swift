import CFabricLinux

/// An open file descriptor with one owner; closed when the owner goes.
///
/// Sendable: the kernel serialises operations on a descriptor. The corresponding C type is `int`.
public struct Descriptor: ~Copyable, Sendable {
  public let rawValue: CInt

  /// Takes ownership of an open descriptor.
  public init(owning rawValue: CInt) {
    precondition(rawValue >= 0, "a descriptor is not negative")
    self.rawValue = rawValue
  }

  /// Takes ownership of what a system call returned; throws `errno` when that is negative.
  public init(result: CInt) throws(Errno) {
    guard result >= 0 else { throw Errno.current }
    self.rawValue = result
  }

  /// Gives up ownership: the caller closes it.
  public consuming func release() -> CInt {
    let value = rawValue
    discard self
    return value
  }

  /// A second descriptor for the same open file, close-on-exec.
  public borrowing func duplicate() throws(Errno) -> Descriptor {
    try Descriptor(result: fabric_duplicate(rawValue))
  }

  deinit { _ = close(rawValue) }
}

extension Descriptor {
  /// Opens a file for reading and writing, close-on-exec.
  public static func opening(_ path: String) throws(Errno) -> Descriptor {
    try unsafe Descriptor(result: fabric_open_read_write(path))
  }
}
