import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Memory of this process, and the keys to it; nobody else sees it but through its connections.
final class TCPProtectionDomain: OwnMemoryDomain {
  let keys: DomainKeys
  /// Those of `keys`, for the loans of each request.
  private let remoteKeys: RemoteKeyTable
  private let regions = Mutex<[LocalKey: MemoryRegion]>([:])
  private let queuePairs = LivingQueuePairs()

  init() {
    let keys = DomainKeys()
    self.keys = keys
    remoteKeys = keys.remote
  }

  func enter(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    let region = try keys.enter(
      address: address, byteCount: byteCount, access: access, owner: owner)
    regions.withLock { $0[region.localKey] = region }
    return region
  }

  func deregister(_ region: MemoryRegion) {
    let wasThere = regions.withLock { $0.removeValue(forKey: region.localKey) != nil }
    guard wasThere else { return }
    keys.forget(region)
    waitForPlacement(of: nil)
  }

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    try keys.grant(access, to: region, offset: offset, byteCount: byteCount, only: queuePair)
  }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    try keys.lend(element, for: access, to: queuePairNumber)
  }

  func revoke(_ key: RemoteKey) {
    let number = remoteKeys.record(for: key)?.queuePairNumber ?? 0
    guard remoteKeys.remove(key) else { return }
    waitForPlacement(of: number == 0 ? nil : number)
  }

  /// Returns when no placement that began before is still under way.
  private func waitForPlacement(of number: UInt32?) {
    if let number {
      queuePairs.waitForPlacement(of: number)
    } else {
      for queuePair in queuePairs.all { queuePair.waitForPlacement() }
    }
  }

  /// The living region that a remote key's record belongs to.
  func region(of record: RemoteKeyRecord) -> MemoryRegion? {
    regions.withLock { $0[LocalKey(rawValue: UInt32(truncatingIfNeeded: record.context))] }
  }

  func attach(_ queuePair: TCPQueuePair) { queuePairs.add(queuePair) }
  func detach(_ queuePair: TCPQueuePair) { queuePairs.remove(queuePair) }
}
