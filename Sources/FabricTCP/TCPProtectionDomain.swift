import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Memory of this process, and the keys to it; nobody else sees it but through its connections.
final class TCPProtectionDomain: ProtectionDomain {

  /// Keys that peers name.
  let remoteKeys = RemoteKeyTable()
  /// Keys that requests of this process name.
  let localKeys = RemoteKeyTable()
  private let regions = Mutex<[LocalKey: MemoryRegion]>([:])
  private let queuePairs = LivingQueuePairs()

  func allocate(byteCount: Int, access: AccessRights) throws(RegistrationError) -> MemoryRegion {
    guard byteCount > 0 else { throw .emptyOrWrapping }
    let mapping: Mapping
    do {
      mapping = try Mapping.anonymous(byteCount: wholePages(byteCount))
    } catch { throw .system(error, doing: "mapping \(byteCount) bytes") }
    return try enter(mapping.address, byteCount, access, owner: mapping)
  }

  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    guard byteCount > 0, address != 0,
      !address.addingReportingOverflow(UInt64(byteCount)).overflow
    else { throw .emptyOrWrapping }
    return try enter(address, byteCount, access, owner: owner)
  }

  private func enter(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    var record = RemoteKeyRecord(address: address, byteCount: UInt64(byteCount), access: access)
    guard let local = localKeys.insert(record) else {
      throw .tooManyKeys(limit: RemoteKeyTable.limit)
    }
    record.context = UInt64(local.rawValue)
    var remote: RemoteKey?
    if !access.isDisjoint(with: [.remoteRead, .remoteWrite]) {
      remote = remoteKeys.insert(record)
      if remote == nil {
        localKeys.remove(local)
        throw .tooManyKeys(limit: RemoteKeyTable.limit)
      }
    }
    let region = MemoryRegion(
      address: address, byteCount: byteCount, access: access,
      localKey: LocalKey(rawValue: local.rawValue), remoteKey: remote, owner: owner)
    regions.withLock { $0[region.localKey] = region }
    return region
  }

  func deregister(_ region: MemoryRegion) {
    let wasThere = regions.withLock { $0.removeValue(forKey: region.localKey) != nil }
    guard wasThere else { return }
    localKeys.remove(RemoteKey(rawValue: region.localKey.rawValue))
    // Granted keys of the region go with it.
    let context = UInt64(region.localKey.rawValue)
    remoteKeys.removeAll { $0.context == context }
    waitForPlacement(of: nil)
  }

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    guard byteCount > 0, offset >= 0, offset <= region.byteCount,
      byteCount <= region.byteCount - offset, region.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    let record = RemoteKeyRecord(
      address: region.address + UInt64(offset), byteCount: UInt64(byteCount), access: access,
      queuePairNumber: queuePair?.number ?? 0, context: UInt64(region.localKey.rawValue))
    guard let key = remoteKeys.insert(record) else {
      throw .tooManyKeys(limit: RemoteKeyTable.limit)
    }
    return key
  }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    guard let record = localKeys.record(for: RemoteKey(rawValue: element.localKey.rawValue)),
      record.covers(element.address, UInt64(element.byteCount)),
      record.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    let part = RemoteKeyRecord(
      address: element.address, byteCount: UInt64(element.byteCount), access: access,
      queuePairNumber: queuePairNumber, context: UInt64(element.localKey.rawValue))
    guard let key = remoteKeys.insert(part) else {
      throw .tooManyKeys(limit: RemoteKeyTable.limit)
    }
    return key
  }

  func revoke(_ key: RemoteKey) {
    let number = remoteKeys.record(for: key)?.queuePairNumber ?? 0
    guard remoteKeys.remove(key) else { return }
    waitForPlacement(of: number == 0 ? nil : number)
  }

  /// Returns when no placement that began before is still under way.
  private func waitForPlacement(of number: UInt32?) {
    if let number {
      queuePairs[number]?.waitForPlacement()
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
