import FabricFrontEnds
import FabricVerbs

/// Memory for data that a fabric sends from: registered with its domain.
struct RegisteredMemory: DataMemorySource {
  let domain: any ProtectionDomain

  func makeMemory(byteCount: Int) -> DataMemory? {
    guard let region = try? domain.allocate(byteCount: byteCount, access: .localWrite) else {
      return nil
    }
    return DataMemory(
      address: region.address, byteCount: region.byteCount, key: region.localKey.rawValue,
      owner: Keeper(region, domain))
  }

  /// Ends the registration when nobody needs the memory any more.
  private final class Keeper {
    private let region: MemoryRegion
    private let domain: any ProtectionDomain

    init(_ region: MemoryRegion, _ domain: any ProtectionDomain) {
      self.region = region
      self.domain = domain
    }

    deinit { domain.deregister(region) }
  }
}
