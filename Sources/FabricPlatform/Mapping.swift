import CFabricLinux

/// A range of this process's address space, unmapped when the last reference goes.
///
/// Thread rule: the range itself never changes; what it holds is the users' business.
public final class Mapping: @unchecked Sendable {
  /// First byte.
  public let address: UInt64
  public let byteCount: Int

  /// What may be done with the bytes of a mapping.
  public enum Access: Sendable {
    case read
    case readWrite
  }

  private init(address: UInt64, byteCount: Int) {
    self.address = address
    self.byteCount = byteCount
  }

  deinit { unsafe munmap(UnsafeMutableRawPointer(bitPattern: UInt(address)), byteCount) }

  /// Maps the first `byteCount` bytes of `descriptor`, shared.
  ///
  /// - Parameter address: where the range must lie; never replaces an existing mapping. With nil
  ///   the kernel chooses.
  /// - Throws: `.fileExists` when something lies at `address` already; otherwise mmap's errors.
  public static func shared(
    _ descriptor: borrowing Descriptor, byteCount: Int, access: Access, at address: UInt64? = nil
  ) throws(Errno) -> Mapping {
    let rights = access == .read ? PROT_READ : PROT_READ | PROT_WRITE
    return try map(
      byteCount: byteCount, rights: rights, flags: MAP_SHARED, descriptor: descriptor.rawValue,
      at: address)
  }

  /// Private zeroed memory.
  public static func anonymous(byteCount: Int) throws(Errno) -> Mapping {
    try map(
      byteCount: byteCount, rights: PROT_READ | PROT_WRITE, flags: MAP_PRIVATE | MAP_ANONYMOUS,
      descriptor: -1, at: nil)
  }

  private static func map(
    byteCount: Int, rights: CInt, flags: CInt, descriptor: CInt, at address: UInt64?
  ) throws(Errno) -> Mapping {
    precondition(byteCount > 0, "a mapping holds at least one byte")
    var flags = flags
    var hint: UnsafeMutableRawPointer? = nil
    if let address {
      flags |= CInt(MAP_FIXED_NOREPLACE)
      unsafe hint = UnsafeMutableRawPointer(bitPattern: UInt(address))
    }
    let base = unsafe mmap(hint, byteCount, rights, flags, descriptor, 0)
    let place = UInt(bitPattern: base)
    guard place != UInt.max else { throw Errno.current }  // MAP_FAILED
    let mapping = Mapping(address: UInt64(place), byteCount: byteCount)
    // A kernel older than MAP_FIXED_NOREPLACE takes the address as a hint only.
    if let address, mapping.address != address { throw Errno.fileExists }
    return mapping
  }

  /// The mapped bytes. Unsafe: they live as long as this object, and other processes may change
  /// them at any moment.
  @inlinable
  public var bytes: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(address)), count: byteCount)
  }

  /// Asks for huge pages where the kernel has them to give; without effect elsewhere.
  public func preferHugePages() {
    unsafe madvise(bytes.baseAddress, byteCount, CInt(MADV_HUGEPAGE))
  }
}

/// The size of a page of memory in bytes.
public let pageByteCount = Int(sysconf(CInt(_SC_PAGESIZE)))

/// `byteCount` rounded up to whole pages; at least one.
public func wholePages(_ byteCount: Int) -> Int {
  max(1, (byteCount + pageByteCount - 1) / pageByteCount) * pageByteCount
}
