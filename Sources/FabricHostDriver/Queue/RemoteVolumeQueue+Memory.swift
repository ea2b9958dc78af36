import FabricMessaging
public import FabricVerbs

/// What requests read and write.
extension RemoteVolumeQueue {
  /// Memory for requests of this queue, zeroed and page-aligned. Lives as long as the region.
  public func allocate(byteCount: Int) throws(RegistrationError) -> MemoryRegion {
    let region = try memoryDomain.allocate(
      byteCount: byteCount, access: [.localWrite, .remoteWrite])
    revokeOwnKeys(of: region)
    return region
  }

  /// Has requests of this queue use memory of somebody else's, where every fabric takes such memory.
  /// To be given back to `memoryDomain`.
  ///
  /// - Parameter owner: kept alive meanwhile.
  public func register(
    address: UInt64, byteCount: Int, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    let region = try memoryDomain.register(
      address: address, byteCount: byteCount, access: [.localWrite, .remoteWrite], owner: owner)
    revokeOwnKeys(of: region)
    return region
  }

  /// Strangers get a key for each read, and nothing that outlives it.
  private func revokeOwnKeys(of region: MemoryRegion) {
    if let pathMemory {
      pathMemory.revokeOwnKeys(of: region) { endpoints[$0].adapter.capabilities.peersAreStrangers }
    } else if paths[0].lendsKeys, let key = region.remoteKey {
      memoryDomain.revoke(key)
    }
  }
}
