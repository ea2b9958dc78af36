import FabricPlatform
import FabricVerbs
import Synchronization

/// A domain that registers anything and knows what is registered.
final class CountingDomain: ProtectionDomain {
  struct State {
    var registered: [LocalKey: MemoryRegion] = [:]
    var registrationCount = 0
    var nextKey: UInt32 = 1
    /// Registrations that there may be at once.
    var capacity = Int.max
  }

  let state = Mutex(State())
  /// Called within each registration.
  private let meanwhile: @Sendable () -> Void

  init(meanwhile: @escaping @Sendable () -> Void = {}) { self.meanwhile = meanwhile }

  var registrationCount: Int { state.withLock { $0.registrationCount } }
  var registered: [MemoryRegion] { state.withLock { Array($0.registered.values) } }
  func isRegistered(_ region: MemoryRegion) -> Bool {
    state.withLock { $0.registered[region.localKey] === region }
  }

  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    meanwhile()
    return try state.withLock { state throws(RegistrationError) in
      guard state.registered.count < state.capacity else {
        throw .refused("no more than \(state.capacity)")
      }
      let region = MemoryRegion(
        address: address, byteCount: byteCount, access: access,
        localKey: LocalKey(rawValue: state.nextKey), remoteKey: nil, owner: owner)
      state.nextKey += 1
      state.registrationCount += 1
      state.registered[region.localKey] = region
      return region
    }
  }

  func deregister(_ region: MemoryRegion) {
    let found = state.withLock { $0.registered.removeValue(forKey: region.localKey) }
    precondition(found === region, "it was not registered")
  }

  func allocate(byteCount: Int, access: AccessRights) throws(RegistrationError) -> MemoryRegion {
    throw .system(.notSupported, doing: "allocating")
  }

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey { throw .notWithinRegion }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey { throw .notWithinRegion }

  func revoke(_ key: RemoteKey) {}
}
