import CFabricLinux
import CFabricNUMA

/// A range of this process's address space, unmapped when the last reference goes.
///
/// Thread rule: the range itself never changes; what it holds is the users' business.
public final class Mapping: @unchecked Sendable {
  /// First byte.
  public let address: UInt64
  public let byteCount: Int
  /// Another mapping has it now.
  private var isGone = false

  /// What may be done with the bytes of a mapping.
  public enum Access: Sendable {
    case read
    case readWrite
  }

  private init(address: UInt64, byteCount: Int) {
    self.address = address
    self.byteCount = byteCount
  }

  deinit {
    if isGone { return }
    unsafe munmap(UnsafeMutableRawPointer(bitPattern: UInt(address)), byteCount)
  }

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

  /// Bytes of a huge page.
  public static let hugePageByteCount = 2 << 20

  /// Private zeroed memory for devices, which look up fewer places in huge pages. From 2 MiB on it is of pages that the
  /// system has set aside (`vm.nr_hugepages`) if it has as many free, or else of those that the kernel makes when it
  /// can; less, and where there are none, of pages as all memory is. On page borders; the mapping may be longer
  /// than what was asked for.
  ///
  /// - Parameter node: where its pages come from while there are some; nil: anywhere.
  /// - Throws: mmap's errors for want of memory or address space, not of huge pages.
  public static func forDevice(byteCount: Int, near node: Int? = nil) throws(Errno) -> Mapping {
    precondition(byteCount > 0, "a mapping holds at least one byte")
    if byteCount >= hugePageByteCount, let mapping = ofHugePages(byteCount, near: node) {
      return mapping
    }
    let mapping =
      byteCount >= hugePageByteCount
      ? try aligned(byteCount: wholePages(byteCount))
      : try anonymous(byteCount: wholePages(byteCount))
    if let node { MemoryNode.prefer(node, for: mapping.address, byteCount: mapping.byteCount) }
    return mapping
  }

  /// Memory of pages that were set aside; nil when there are not as many. All of them are taken now: where a
  /// container may have none, the first touch would end the process.
  private static func ofHugePages(_ byteCount: Int, near node: Int?) -> Mapping? {
    let whole = (byteCount + hugePageByteCount - 1) / hugePageByteCount * hugePageByteCount
    guard
      let mapping = try? map(
        byteCount: whole, rights: PROT_READ | PROT_WRITE, flags: fabric_map_huge, descriptor: -1,
        at: nil)
    else { return nil }
    if let node { MemoryNode.prefer(node, for: mapping.address, byteCount: whole) }
    let isThere = unsafe fabric_populate(mapping.bytes.baseAddress, whole) == 0
    return isThere ? mapping : nil
  }

  /// Private memory that begins where a huge page can, and asks for some.
  private static func aligned(byteCount: Int) throws(Errno) -> Mapping {
    let larger = try anonymous(byteCount: byteCount + hugePageByteCount)
    let mask = UInt64(hugePageByteCount - 1)
    let head = Int((hugePageByteCount - Int(larger.address & mask)) & Int(mask))
    let mapping = larger.trimmed(from: head, byteCount: byteCount)
    mapping.preferHugePages()
    return mapping
  }

  /// A part, in whole pages, and the rest no more.
  private func trimmed(from offset: Int, byteCount count: Int) -> Mapping {
    let base = unsafe bytes.baseAddress!
    if offset > 0 { unsafe munmap(base, offset) }
    let end = offset + count
    if end < byteCount { unsafe munmap(base + end, byteCount - end) }
    isGone = true
    return Mapping(address: address + UInt64(offset), byteCount: count)
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
