import FabricVerbs
import Synchronization

/// Memory for requests that may take paths of different fabrics: registered with each, whichever made it.
///
/// A region is known by its keys of the first fabric; `Keys` has those of the others.
///
/// Threads: any.
final class PathMemory: ProtectionDomain {
  /// A region's keys at one of the other fabrics.
  struct Keys: BitwiseCopyable {
    var local: LocalKey
    /// nil: without remote rights.
    var remote: RemoteKey?
  }

  private struct Entry {
    let regions: [MemoryRegion]
  }

  /// The first makes the memory, the others take it as foreign.
  let domains: [any ProtectionDomain]
  private let entries = Mutex<[UInt32: Entry]>([:])
  /// Counts changes of the entries, for who keeps a copy.
  let changeCount = Atomic<UInt64>(0)

  init(_ domains: [any ProtectionDomain]) { self.domains = domains }

  /// The keys of every region at the fabric of that number, by its local key of the first one.
  func keys(at index: Int) -> [UInt32: Keys] {
    entries.withLock { entries in
      entries.mapValues {
        Keys(local: $0.regions[index].localKey, remote: $0.regions[index].remoteKey)
      }
    }
  }

  func allocate(
    byteCount: Int, access: AccessRights
  ) throws(RegistrationError) -> MemoryRegion {
    let own = try domains[0].allocate(byteCount: byteCount, access: access)
    return try add(own, access)
  }

  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    let own = try domains[0].register(
      address: address, byteCount: byteCount, access: access, owner: owner)
    return try add(own, access)
  }

  private func add(
    _ own: MemoryRegion, _ access: AccessRights
  ) throws(RegistrationError) -> MemoryRegion {
    var regions = [own]
    do throws(RegistrationError) {
      for domain in domains.dropFirst() {
        regions.append(
          try domain.register(
            address: own.address, byteCount: own.byteCount, access: access, owner: own))
      }
    } catch {
      deregister(regions)
      throw error
    }
    entries.withLock { $0[own.localKey.rawValue] = Entry(regions: regions) }
    changeCount.add(1, ordering: .releasing)
    return own
  }

  func deregister(_ region: MemoryRegion) {
    let entry = entries.withLock { $0.removeValue(forKey: region.localKey.rawValue) }
    changeCount.add(1, ordering: .releasing)
    deregister(entry?.regions ?? [region])
  }

  /// The last one first: the first one's memory is what they all lie in.
  private func deregister(_ regions: [MemoryRegion]) {
    for (domain, region) in zip(domains, regions).reversed() { domain.deregister(region) }
  }

  /// Ends the remote keys that a region itself has, at every fabric of strangers.
  func revokeOwnKeys(of region: MemoryRegion, where isMeant: (Int) -> Bool) {
    let regions = entries.withLock { $0[region.localKey.rawValue] }?.regions ?? [region]
    for (index, region) in regions.enumerated() where isMeant(index) {
      if let key = region.remoteKey { domains[index].revoke(key) }
    }
  }

  // MARK: Keys of the first fabric

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    try domains[0].grant(
      access, to: region, offset: offset, byteCount: byteCount, only: queuePair)
  }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    try domains[0].lend(element, for: access, to: queuePairNumber)
  }

  func revoke(_ key: RemoteKey) { domains[0].revoke(key) }
}
