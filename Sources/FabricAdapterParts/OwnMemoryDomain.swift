import FabricPlatform
public import FabricVerbs

/// Where the memory of a protection domain lies.
public enum MemoryPlacement: Equatable, Sendable {
  /// For processors alone: the kernel's choice.
  case anywhere
  /// For a device: near to it where that is known, in huge pages where there are some.
  case forDevice(node: Int?)
}

/// A protection domain that any memory of its process may be entered in, whoever made it.
public protocol OwnMemoryDomain: ProtectionDomain {
  /// What `allocate` gives.
  var placement: MemoryPlacement { get }

  /// Makes a region of a range that is known to be of at least one byte and not to wrap.
  ///
  /// - Parameter owner: kept as long as the region.
  func enter(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion
}

extension OwnMemoryDomain {
  public var placement: MemoryPlacement { .anywhere }

  public func allocate(
    byteCount: Int, access: AccessRights
  ) throws(RegistrationError) -> MemoryRegion {
    guard byteCount > 0 else { throw .emptyOrWrapping }
    let mapping: Mapping
    do {
      mapping =
        switch placement {
        case .anywhere: try Mapping.anonymous(byteCount: wholePages(byteCount))
        case .forDevice(let node): try Mapping.forDevice(byteCount: byteCount, near: node)
        }
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
