import FabricFrontEnds
import FabricVerbs

/// Memory of an adapter's, for what moves between hosts and stores.
struct RegisteredMemory: DataMemorySource {
  let domain: any ProtectionDomain

  func makeMemory(byteCount: Int) -> DataMemory? {
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
