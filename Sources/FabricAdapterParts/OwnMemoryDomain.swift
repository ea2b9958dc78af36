import FabricPlatform
public import FabricVerbs

/// A protection domain that any memory of its process may be entered in, whoever made it.
public protocol OwnMemoryDomain: ProtectionDomain {
  /// Makes a region of a range that is known to be of at least one byte and not to wrap.
  ///
  /// - Parameter owner: kept as long as the region.
  func enter(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion
}

extension OwnMemoryDomain {
  public func allocate(
    byteCount: Int, access: AccessRights
  ) throws(RegistrationError) -> MemoryRegion {
    guard byteCount > 0 else { throw .emptyOrWrapping }
    let mapping: Mapping
    do {
      mapping = try Mapping.anonymous(byteCount: wholePages(byteCount))
    } catch { throw .system(error, doing: "mapping \(byteCount) bytes") }
    return try enter(mapping.address, byteCount, access, owner: mapping)
  }

  public func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    guard byteCount > 0, address != 0,
      !address.addingReportingOverflow(UInt64(byteCount)).overflow
    else { throw .emptyOrWrapping }
    return try enter(address, byteCount, access, owner: owner)
  }
}
