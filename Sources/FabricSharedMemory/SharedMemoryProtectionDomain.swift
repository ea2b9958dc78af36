import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Fabric memory in sealed memory files, each mapped writable here and nowhere else; in direct mode
/// the peers map what is registered for remote write writable too.
final class SharedMemoryProtectionDomain: ProtectionDomain {
  /// A region's memory, as a peer gets to see it.
  struct Segment: Sendable {
    let region: MemoryRegion
    let file: CInt
    var isOpenToWrites: Bool { isDirect && region.access.contains(.remoteWrite) }
    let isDirect: Bool
    /// Whether every peer may come for it unasked; the others see it when a request first uses it.
    var isForAllPeers: Bool { isOpenToWrites || region.access.contains(.remoteRead) }
  }

  private struct State {
    var segments: [LocalKey: Segment] = [:]
    var queuePairs: [ObjectIdentifier: Weak] = [:]
  }
  private struct Weak { weak var queuePair: SharedMemoryQueuePair? }

  private let keys: DomainKeys
  var remoteKeys: RemoteKeyTable { keys.remote }
  /// The remote keys' own memory file, for direct peers; nil in isolated mode.
  private let keyFile: Descriptor?
  private let keyFileNumber: CInt?
  /// Whether peers may write straight into what is registered for remote write.
  var isDirect: Bool { keyFileNumber != nil }
  /// At hand for each request.
  let localKeys: RemoteKeyTable
  private let state = Mutex(State())

  init(_ mode: SharedMemoryOptions.Mode) throws(Errno) {
    guard mode == .direct else {
      keys = DomainKeys()
      localKeys = keys.local
      keyFile = nil
      keyFileNumber = nil
      return
    }
    let file = try MemoryFile(name: "fabric-keys", byteCount: RemoteKeyTable.byteCount)
    keys = DomainKeys(remote: RemoteKeyTable(in: try file.map(.readWrite)))
    localKeys = keys.local
    try file.sealWrites()
    let descriptor = try file.descriptor.duplicate()
    keyFileNumber = descriptor.rawValue
    keyFile = consume descriptor
  }

  deinit {
    state.withLock { state in
      for segment in state.segments.values { _ = Descriptor(owning: segment.file) }
    }
  }

  func allocate(byteCount: Int, access: AccessRights) throws(RegistrationError) -> MemoryRegion {
    guard byteCount > 0 else { throw .emptyOrWrapping }
    let mapping: Mapping
    let number: CInt
    do {
      let file = try MemoryFile(name: "fabric-memory", byteCount: byteCount)
      mapping = try Self.mapAtRandom(file)
      if !isDirect || !access.contains(.remoteWrite) { try file.sealWrites() }
      number = try file.descriptor.duplicate().release()
    } catch {
      throw .system(error, doing: "allocating \(byteCount) bytes of shared memory")
    }
    let region: MemoryRegion
    do {
      region = try keys.enter(
        address: mapping.address, byteCount: byteCount, access: access, owner: mapping)
    } catch {
      _ = Descriptor(owning: number)
      throw error
    }
    let segment = Segment(region: region, file: number, isDirect: isDirect)
    let peers = state.withLock { state in
      state.segments[region.localKey] = segment
      return state.queuePairs.values.compactMap(\.queuePair)
    }
    if segment.isForAllPeers { for peer in peers { peer.announce(segment) } }
    return region
  }

  /// A random place makes it likely that the address is free in every peer as well.
  private static func mapAtRandom(_ file: borrowing MemoryFile) throws(Errno) -> Mapping {
    for _ in 0..<8 {
      let address = UInt64.random(in: PeerMemory.addresses) & ~0x1f_ffff
      do { return try file.map(.readWrite, at: address) } catch { continue }
    }
    return try file.map(.readWrite)
  }

  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    throw .foreignMemoryUnsupported(
      "a peer can map only memory that `allocate` made; allocate it here and use it in place")
  }

  func deregister(_ region: MemoryRegion) {
    keys.forget(region)
    let (segment, peers) = state.withLock { state in
      (
        state.segments.removeValue(forKey: region.localKey),
        state.queuePairs.values.compactMap(\.queuePair)
      )
    }
    for peer in peers {
      peer.waitForRemoteWork()
      peer.withdraw(region)
    }
    if let segment { _ = Descriptor(owning: segment.file) }
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
    guard remoteKeys.remove(key) else { return }
    let peers = state.withLock { $0.queuePairs.values.compactMap(\.queuePair) }
    for peer in peers { peer.waitForRemoteWork() }
  }

  /// The memory of a living region.
  func segment(_ key: LocalKey) -> Segment? { state.withLock { $0.segments[key] } }

  /// Announces what is for all peers, now and from now on, to the queue pair's peer.
  func attach(_ queuePair: SharedMemoryQueuePair) {
    let segments = state.withLock { state in
      state.queuePairs[ObjectIdentifier(queuePair)] = Weak(queuePair: queuePair)
      return Array(state.segments.values)
    }
    if queuePair.isDirect, let number = keyFileNumber {
      queuePair.connection.announceKeys(
        number, byteCount: wholePages(RemoteKeyTable.byteCount))
    }
    for segment in segments where segment.isForAllPeers { queuePair.announce(segment) }
  }

  func detach(_ queuePair: SharedMemoryQueuePair) {
    state.withLock { _ = $0.queuePairs.removeValue(forKey: ObjectIdentifier(queuePair)) }
  }

  /// Whether an element lies in a living region with the rights that its use needs.
  @inline(__always)
  func covers(_ element: ScatterGatherElement, writing: Bool) -> Bool {
    localKeys.covers(element, writing: writing)
  }
}
