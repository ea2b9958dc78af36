import CFabricLinux

/// Memory without a name in the file system, handed to other processes as a descriptor.
///
/// Its size is sealed when it is made, so that no holder can truncate it under another's map.
/// The corresponding C call is `memfd_create`.
public struct MemoryFile: ~Copyable, Sendable {
  public let descriptor: Descriptor
  public let byteCount: Int

  /// Makes zeroed memory of `byteCount` bytes (rounded up to whole pages).
  public init(name: String, byteCount: Int) throws(Errno) {
    let size = wholePages(byteCount)
    let descriptor = try unsafe Descriptor(result: fabric_memfd_create(name))
    try Errno.check { ftruncate(descriptor.rawValue, size) }
    try Errno.check {
      fabric_add_seals(descriptor.rawValue, fabric_seal_shrink | fabric_seal_grow)
    }
    self.descriptor = descriptor
    self.byteCount = size
  }

  /// Takes a descriptor that another process passed; nothing about it is trusted.
  ///
  /// - Throws: `.invalidArgument` unless it lies in ordinary pages, and its size is sealed and is
  ///   `byteCount`.
  public init(received descriptor: consuming Descriptor, byteCount: Int) throws(Errno) {
    let needed = fabric_seal_shrink | fabric_seal_grow
    let seals = fabric_get_seals(descriptor.rawValue)
    guard seals >= 0, seals & needed == needed,
      fabric_is_ordinary_memory(descriptor.rawValue) != 0
    else { throw Errno.invalidArgument }
    var status = stat()
    let number = descriptor.rawValue
    let result = unsafe fstat(number, &status)
    guard result == 0 else { throw Errno.current }
    guard byteCount > 0, status.st_size == byteCount, byteCount % pageByteCount == 0 else {
      throw Errno.invalidArgument
    }
    self.descriptor = descriptor
    self.byteCount = byteCount
  }

  /// Seals against every later writable map, everyone's; maps made before stay writable.
  public borrowing func sealWrites() throws(Errno) {
    let number = descriptor.rawValue
    try Errno.check {
      fabric_add_seals(number, fabric_seal_future_write | fabric_seal_seal)
    }
  }

  /// True when no new map of it can be written to.
  public var isWriteSealed: Bool {
    fabric_get_seals(descriptor.rawValue) & fabric_seal_future_write != 0
  }

  /// Maps all of it.
  public borrowing func map(_ access: Mapping.Access, at address: UInt64? = nil) throws(Errno)
    -> Mapping
  {
    try Mapping.shared(descriptor, byteCount: byteCount, access: access, at: address)
  }
}
