import FabricAdapterParts
import FabricPlatform
import FabricVerbs

/// Regions by local key, remote keys in a table, all checked where they are used.
final class SimulatedProtectionDomain: OwnMemoryDomain, @unchecked Sendable {
  let adapter: SimulatedAdapter
  private let remoteKeys = RemoteKeyTable()
  private var regions: [UInt32: MemoryRegion] = [:]
  /// The remote keys of each region, by its local key.
  private var keysOfRegions: [UInt32: Set<RemoteKey>] = [:]

  init(adapter: SimulatedAdapter) { self.adapter = adapter }

  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    guard adapter.capabilities.hasForeignMemory else {
      throw .foreignMemoryUnsupported("the simulated adapter was told so")
    }
    guard byteCount > 0, !address.addingReportingOverflow(UInt64(byteCount)).overflow else {
      throw .emptyOrWrapping
    }
    return try enter(address, byteCount, access, owner: owner)
  }

  func enter(
    _ address: UInt64, _ byteCount: Int, _ access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion {
    var remoteKey: RemoteKey?
    if !access.isDisjoint(with: [.remoteRead, .remoteWrite]) {
      remoteKey = try insert(
        RemoteKeyRecord(address: address, byteCount: UInt64(byteCount), access: access))
    }
    var localKey = UInt32.random(in: 1 ... .max)
    while regions[localKey] != nil { localKey = UInt32.random(in: 1 ... .max) }
    let region = MemoryRegion(
      address: address, byteCount: byteCount, access: access,
      localKey: LocalKey(rawValue: localKey), remoteKey: remoteKey, owner: owner)
    regions[localKey] = region
    if let remoteKey { keysOfRegions[localKey] = [remoteKey] }
    return region
  }

  private func insert(_ record: RemoteKeyRecord) throws(RegistrationError) -> RemoteKey {
    guard let key = remoteKeys.insert(record) else {
      throw .tooManyKeys(limit: RemoteKeyTable.limit)
    }
    return key
  }

  func deregister(_ region: MemoryRegion) {
    guard regions.removeValue(forKey: region.localKey.rawValue) != nil else { return }
    for key in keysOfRegions.removeValue(forKey: region.localKey.rawValue) ?? [] {
      remoteKeys.remove(key)
    }
  }

  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey {
    guard regions[region.localKey.rawValue] === region, offset >= 0, byteCount > 0,
      offset <= region.byteCount, byteCount <= region.byteCount - offset,
      region.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    let key = try insert(
      RemoteKeyRecord(
        address: region.address + UInt64(offset), byteCount: UInt64(byteCount), access: access,
        queuePairNumber: queuePair?.number ?? 0))
    keysOfRegions[region.localKey.rawValue, default: []].insert(key)
    return key
  }

  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey {
    guard let region = regions[element.localKey.rawValue],
      covers(ScatterGatherList(element), isWritten: false), region.access.isSuperset(of: access)
    else { throw .notWithinRegion }
    let key = try insert(
      RemoteKeyRecord(
        address: element.address, byteCount: UInt64(element.byteCount), access: access,
        queuePairNumber: queuePairNumber))
    keysOfRegions[region.localKey.rawValue, default: []].insert(key)
    return key
  }

  func revoke(_ key: RemoteKey) {
    remoteKeys.remove(key)
    for localKey in keysOfRegions.keys { keysOfRegions[localKey]?.remove(key) }
  }

  // MARK: Checks

  /// Whether the elements lie in regions of this domain, with the right to write if needed.
  func covers(_ elements: ScatterGatherList, isWritten: Bool) -> Bool {
    for index in 0..<elements.count {
      let element = index == 0 ? elements.first : elements.second
      guard let region = regions[element.localKey.rawValue],
        !isWritten || region.access.contains(.localWrite),
        RemoteKeyRecord(
          address: region.address, byteCount: UInt64(region.byteCount), access: region.access
        ).covers(element.address, UInt64(element.byteCount))
      else { return false }
    }
    return true
  }

  enum Answer {
    case granted
    case refused
    /// It should be refused, and a check that would is left out.
    case overlooked
  }

  /// Whether the peer of queue pair `number` may do `access` there.
  func answer(
    _ access: AccessRights, address: UInt64, byteCount: Int, key: RemoteKey, number: UInt32
  ) -> Answer {
    let checks = adapter.keyChecks
    guard let record = remoteKeys.record(for: key) else {
      return checks.contains(.validity) ? .refused : .overlooked
    }
    guard
      record.queuePairNumber == 0 || record.queuePairNumber == number
        || !checks.contains(.connection), record.access.isSuperset(of: access)
    else { return .refused }
    if record.covers(address, UInt64(byteCount)) { return .granted }
    return checks.contains(.bounds) ? .refused : .overlooked
  }
}

/// Copies in and out of addresses that were checked.
enum SimulatedBytes {
  static func gather(_ elements: ScatterGatherList) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.reserveCapacity(elements.byteCount)
    for index in 0..<elements.count {
      let element = index == 0 ? elements.first : elements.second
      bytes += read(element.address, Int(element.byteCount))
    }
    return bytes
  }

  /// Fills the elements in order.
  static func scatter(_ bytes: [UInt8], to elements: ScatterGatherList) {
    let first = min(bytes.count, Int(elements.first.byteCount))
    write(bytes, 0..<first, to: elements.first.address)
    write(bytes, first..<bytes.count, to: elements.second.address)
  }

  static func read(_ address: UInt64, _ count: Int) -> [UInt8] {
    if count == 0 { return [] }
    return unsafe [UInt8](
      UnsafeRawBufferPointer(start: UnsafeRawPointer(bitPattern: UInt(address)), count: count))
  }

  static func write(_ bytes: [UInt8], _ range: Range<Int>, to address: UInt64) {
    if range.isEmpty { return }
    let target = unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(address)), count: range.count)
    unsafe target.copyBytes(from: bytes[range])
  }
}
