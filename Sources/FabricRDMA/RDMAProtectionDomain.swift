import CFabricVerbs
import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Memory that the device may use. Each region has a registration of its own for this side's
/// requests, and one more for each key that peers are given, so that a key can end alone.
@safe
final class RDMAProtectionDomain: OwnMemoryDomain, @unchecked Sendable {
  /// Registrations by key. The device's handle ends with its entry.
  @safe
  private struct Registration: @unchecked Sendable {
    let handle: UnsafeMutablePointer<ibv_mr>
    let region: MemoryRegion
  }

  private struct Registrations {
    var local: [LocalKey: Registration] = [:]
    var remote: [RemoteKey: Registration] = [:]
  }

  let device: OpenDevice
  let handle: UnsafeMutablePointer<ibv_pd>
  private let registrations = Mutex(Registrations())

  var placement: MemoryPlacement { .forDevice(node: device.numaNode) }

  init(_ device: OpenDevice) throws(ResourceError) {
    guard let handle = unsafe ibv_alloc_pd(device.context) else {
      throw .refusal(Errno.current, doing: "making a protection domain on \(device.name)")
    }
    self.device = device
    unsafe self.handle = handle
  }

  deinit {
    registrations.withLock { all in
      for entry in all.remote.values { unsafe ibv_dereg_mr(entry.handle) }
      for entry in all.local.values { unsafe ibv_dereg_mr(entry.handle) }
    }
    unsafe ibv_dealloc_pd(handle)
  }

  func enter(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    let local = try unsafe pin(address, byteCount, access.intersection(.localWrite))
    let localKey = unsafe LocalKey(rawValue: local.pointee.lkey)
    var remote: UnsafeMutablePointer<ibv_mr>?
    if !access.isDisjoint(with: [.remoteRead, .remoteWrite]) {
      do throws(RegistrationError) {
        unsafe remote = try unsafe pin(address, byteCount, access)
      } catch {
        unsafe ibv_dereg_mr(local)
        throw error
      }
    }
    let region = MemoryRegion(
      address: address, byteCount: byteCount, access: access, localKey: localKey,
      remoteKey: unsafe remote.map { unsafe RemoteKey(rawValue: $0.pointee.rkey) }, owner: owner)
    registrations.withLock { all in
      all.local[localKey] = unsafe Registration(handle: local, region: region)
      if let remote = unsafe remote, let key = region.remoteKey {
        all.remote[key] = unsafe Registration(handle: remote, region: region)
      }
    }
    return region
  }

  /// Registers a range with the device, which keeps its pages in memory.
  private func pin(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights
  ) throws(RegistrationError) -> UnsafeMutablePointer<ibv_mr> {
    let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address))
    guard
      let memory = unsafe fabric_verbs_register(handle, place, byteCount, access.verbs)
    else {
      let error = Errno.current
      let doing = "registering \(byteCount) bytes with \(device.name)"
      let start = address / UInt64(pageByteCount) * UInt64(pageByteCount)
      let pages = wholePages(Int(address - start) + byteCount)
      if let problem = LockedMemory.now().problem(error, doing: doing, asked: UInt64(pages)) {
        throw .refused(problem.description)
      }
      throw .system(error, doing: doing)
    }
    return unsafe memory
  }

  func deregister(_ region: MemoryRegion) {
    let ended = registrations.withLock { all -> [Registration] in
      guard let local = all.local.removeValue(forKey: region.localKey) else { return [] }
      var ended = [local]
      for (key, entry) in all.remote where entry.region.localKey == region.localKey {
        ended.append(entry)
        all.remote[key] = nil
      }
      return ended
    }
    for entry in ended.reversed() { unsafe ibv_dereg_mr(entry.handle) }
  }

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    guard byteCount > 0, offset >= 0, offset <= region.byteCount,
      byteCount <= region.byteCount - offset, region.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    return try grant(access, at: region.address + UInt64(offset), byteCount, of: region)
  }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    let region = registrations.withLock { $0.local[element.localKey]?.region }
    guard let region, region.access.isSuperset(of: access), element.byteCount > 0,
      element.address >= region.address,
      element.address - region.address <= UInt64(region.byteCount),
      UInt64(element.byteCount) <= UInt64(region.byteCount) - (element.address - region.address)
    else { throw .notWithinRegion }
    return try grant(access, at: element.address, Int(element.byteCount), of: region)
  }

  private func grant(
    _ access: AccessRights, at address: UInt64, _ byteCount: Int, of region: MemoryRegion
  ) throws(RegistrationError) -> RemoteKey {
    let memory = try unsafe pin(address, byteCount, access)
    let key = unsafe RemoteKey(rawValue: memory.pointee.rkey)
    registrations.withLock { all in
      all.remote[key] = unsafe Registration(handle: memory, region: region)
    }
    return key
  }

  /// Whether this side's registrations cover the elements; for requests that have failed.
  func covers(_ list: ScatterGatherList) -> Bool {
    covers(list.first) && (list.count < 2 || covers(list.second))
  }

  private func covers(_ element: ScatterGatherElement) -> Bool {
    if element.byteCount == 0 { return true }
    guard let region = registrations.withLock({ $0.local[element.localKey]?.region }) else {
      return false
    }
    return element.address >= region.address
      && element.address - region.address <= UInt64(region.byteCount)
      && UInt64(element.byteCount) <= UInt64(region.byteCount) - (element.address - region.address)
  }

  func revoke(_ key: RemoteKey) {
    let entry = registrations.withLock { $0.remote.removeValue(forKey: key) }
    if let entry { unsafe ibv_dereg_mr(entry.handle) }
  }
}

extension AccessRights {
  /// As `ibv_access_flags`. Who may write from afar must be able to write here.
  fileprivate var verbs: CInt {
    var flags: UInt32 = 0
    if !isDisjoint(with: [.localWrite, .remoteWrite]) { flags |= IBV_ACCESS_LOCAL_WRITE.rawValue }
    if contains(.remoteWrite) { flags |= IBV_ACCESS_REMOTE_WRITE.rawValue }
    if contains(.remoteRead) { flags |= IBV_ACCESS_REMOTE_READ.rawValue }
    return CInt(flags)
  }
}
