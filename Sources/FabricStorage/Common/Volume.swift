import Synchronization

/// What may be done to a volume.
public enum VolumeAccess: Sendable {
  case readOnly
  case readWrite
}

/// A store with a name and an identity, as it is served. Any thread.
public final class Volume: Sendable {
  /// Unique in its common layer.
  public let name: String
  public let identifier: VolumeIdentifier
  public let store: any Store
  /// The most that any port on it may do.
  public let access: VolumeAccess
  /// How often writes may have failed to become durable. Who wrote, flushes and finds that it
  /// grew meanwhile is told so, whoever's flush it was that failed.
  let durabilityFailureCount = Atomic<UInt64>(0)

  /// - Parameters:
  ///   - identifier: nil: that of a file store, else a new one.
  ///   - access: nil: what the store allows.
  public init(
    name: String, store: any Store, identifier: VolumeIdentifier? = nil,
    access: VolumeAccess? = nil
  ) {
    self.name = name
    self.store = store
    self.identifier = identifier ?? (store as? FileStore)?.identifier ?? .random()
    self.access = store.isReadOnly ? .readOnly : access ?? .readWrite
  }

  public var blockByteCount: UInt32 { store.blockByteCount }
  public var blockCount: UInt64 { store.blockCount }
  public var byteCount: UInt64 { blockCount * UInt64(blockByteCount) }
}
