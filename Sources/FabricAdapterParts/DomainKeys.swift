public import FabricVerbs

/// The keys of a protection domain: what its own requests name, and what its peers may.
public final class DomainKeys: Sendable {
  /// Keys that requests of this process name.
  public let local = RemoteKeyTable()
  /// Keys that peers name.
  public let remote: RemoteKeyTable

  /// - Parameter remote: where the peers' keys lie, when that matters.
  public init(remote: RemoteKeyTable = RemoteKeyTable()) { self.remote = remote }

  /// Enters a region with fresh keys. The local key is the context of its remote key, and of those
  /// granted and lent later.
  public func enter(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    var record = RemoteKeyRecord(address: address, byteCount: UInt64(byteCount), access: access)
    guard let key = local.insert(record) else { throw .tooManyKeys(limit: RemoteKeyTable.limit) }
    record.context = UInt64(key.rawValue)
    var remoteKey: RemoteKey?
    if !access.isDisjoint(with: [.remoteRead, .remoteWrite]) {
      remoteKey = remote.insert(record)
      if remoteKey == nil {
        local.remove(key)
        throw .tooManyKeys(limit: RemoteKeyTable.limit)
      }
    }
    return MemoryRegion(
      address: address, byteCount: byteCount, access: access,
      localKey: LocalKey(rawValue: key.rawValue), remoteKey: remoteKey, owner: owner)
  }

  /// As `ProtectionDomain.grant`.
  public func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    guard byteCount > 0, offset >= 0, offset <= region.byteCount,
      byteCount <= region.byteCount - offset, region.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    return try insert(
      RemoteKeyRecord(
        address: region.address + UInt64(offset), byteCount: UInt64(byteCount), access: access,
        queuePairNumber: queuePair?.number ?? 0, context: UInt64(region.localKey.rawValue)))
  }

  /// As `ProtectionDomain.lend`.
  public func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    guard let record = local.record(for: RemoteKey(rawValue: element.localKey.rawValue)),
      record.covers(element.address, UInt64(element.byteCount)),
      record.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    return try insert(
      RemoteKeyRecord(
        address: element.address, byteCount: UInt64(element.byteCount), access: access,
        queuePairNumber: queuePairNumber, context: UInt64(element.localKey.rawValue)))
  }

  private func insert(_ record: RemoteKeyRecord) throws(RegistrationError) -> RemoteKey {
    guard let key = remote.insert(record) else {
      throw .tooManyKeys(limit: RemoteKeyTable.limit)
    }
    return key
  }

  /// Forgets a region and every key to it.
  public func forget(_ region: MemoryRegion) {
    local.remove(RemoteKey(rawValue: region.localKey.rawValue))
    let context = UInt64(region.localKey.rawValue)
    remote.removeAll { $0.context == context }
  }
}
