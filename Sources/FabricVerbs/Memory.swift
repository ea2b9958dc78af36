/// Memory that the fabric may use, and the keys to name it with.
///
/// A value of its maker, the protection domain: it stays registered until `deregister`. The
/// corresponding C type is `ibv_mr`.
public final class MemoryRegion: @unchecked Sendable {
  /// First byte, an address in this process.
  public let address: UInt64
  public let byteCount: Int
  public let access: AccessRights
  public let localKey: LocalKey
  /// For the peer; nil without remote rights.
  public let remoteKey: RemoteKey?
  /// Keeps the memory alive as long as this object.
  private let owner: AnyObject?

  public init(
    address: UInt64, byteCount: Int, access: AccessRights, localKey: LocalKey,
    remoteKey: RemoteKey?, owner: AnyObject?
  ) {
    self.address = address
    self.byteCount = byteCount
    self.access = access
    self.localKey = localKey
    self.remoteKey = remoteKey
    self.owner = owner
  }

  /// The bytes. Unsafe: they live as long as the region, and peers with rights change them.
  @inlinable
  public var bytes: UnsafeMutableRawBufferPointer {
    unsafe UnsafeMutableRawBufferPointer(
      start: UnsafeMutableRawPointer(bitPattern: UInt(address)), count: byteCount)
  }

  /// A piece of it for a work request. Traps outside the region.
  @inlinable
  public func element(offset: Int = 0, byteCount: Int) -> ScatterGatherElement {
    precondition(
      offset >= 0 && byteCount >= 0 && offset <= self.byteCount
        && byteCount <= self.byteCount &- offset, "outside the region")
    return ScatterGatherElement(
      address: address &+ UInt64(offset), byteCount: UInt32(byteCount), localKey: localKey)
  }

  /// All of it for a work request.
  @inlinable
  public var element: ScatterGatherElement { element(byteCount: byteCount) }
}

/// Holds memory regions and queue pairs together: a key is good only within its domain.
///
/// Threads: all calls may come from any thread. The corresponding C type is `ibv_pd`.
public protocol ProtectionDomain: AnyObject, Sendable {
  /// Makes zeroed fabric memory, page-aligned, and registers it.
  func allocate(byteCount: Int, access: AccessRights) throws(RegistrationError) -> MemoryRegion

  /// Registers memory that came from elsewhere and that `owner` keeps alive.
  ///
  /// - Throws: `.foreignMemoryUnsupported` where this fabric reaches only memory that it made.
  func register(
    address: UInt64, byteCount: Int, access: AccessRights, owner: AnyObject?
  ) throws(RegistrationError) -> MemoryRegion

  /// Ends a registration and all keys to it. After the return no peer changes a byte of it;
  /// requests that still name it fail with a protection or access error.
  func deregister(_ region: MemoryRegion)

  /// A further remote key to a part of a region, with rights that the region itself has. The
  /// corresponding C type is `ibv_mw`.
  ///
  /// - Parameter queuePair: the only one whose peer may use the key; nil for all of the domain.
  func grant(
    _ access: AccessRights, to region: MemoryRegion, offset: Int, byteCount: Int,
    only queuePair: (any QueuePair)?
  ) throws(RegistrationError) -> RemoteKey

  /// A remote key for one transfer: to the bytes of an element, for the peer of one queue pair
  /// only. Cheap enough for each request; `revoke` ends it.
  ///
  /// - Throws: `.notWithinRegion` when the element's key does not cover it with this right.
  func lend(
    _ element: ScatterGatherElement, for access: AccessRights, to queuePairNumber: UInt32
  ) throws(RegistrationError) -> RemoteKey

  /// Ends a remote key, granted, lent or the region's own. After the return no peer changes a byte
  /// with it; requests in flight that name it fail with `remoteAccessError`.
  func revoke(_ key: RemoteKey)
}
