public import FabricVerbs

/// Memory that a fabric sends from and receives into; its key is the local one.
public struct RegisteredMemory: DataMemorySource {
  private let domain: any ProtectionDomain

  public init(domain: any ProtectionDomain) { self.domain = domain }

  public func makeMemory(byteCount: Int) -> DataMemory? {
    guard let region = try? domain.allocate(byteCount: byteCount, access: .localWrite) else {
      return nil
    }
    return DataMemory(
      address: region.address, byteCount: region.byteCount, key: region.localKey.rawValue,
      owner: Owner(domain: domain, region: region))
  }

  /// The registration ends with it.
  private final class Owner {
    let domain: any ProtectionDomain
    let region: MemoryRegion

    init(domain: any ProtectionDomain, region: MemoryRegion) {
      self.domain = domain
      self.region = region
    }

    deinit { domain.deregister(region) }
  }
}
