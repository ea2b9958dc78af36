/// Names a memory region in work requests posted on the queue pairs of its protection domain.
///
/// The corresponding C field is `lkey`.
public struct LocalKey: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// Lets the peer of a queue pair reach a range of memory; iWARP calls it a steering tag.
///
/// Drawn at random from all 32-bit values, so that knowing one tells nothing of another. The
/// corresponding C field is `rkey`.
public struct RemoteKey: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32
  @inlinable public init(rawValue: UInt32) { self.rawValue = rawValue }
}

/// What may be done to a memory region. Local reads need no right.
///
/// The corresponding C type is `ibv_access_flags`.
public struct AccessRights: OptionSet, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// Receives and the results of RDMA reads may be placed here.
  @inlinable public static var localWrite: AccessRights { AccessRights(rawValue: 1) }
  /// The peer may write here with an RDMA write.
  @inlinable public static var remoteWrite: AccessRights { AccessRights(rawValue: 2) }
  /// The peer may read from here with an RDMA read.
  @inlinable public static var remoteRead: AccessRights { AccessRights(rawValue: 4) }
}
