import Synchronization

/// One writer to a volume, such as a host's session, whose durability is accounted for by itself.
///
/// It may be attached to several ports, and outlives them: a session that comes back over another
/// connection still learns of a flush that failed meanwhile. Any thread.
public final class VolumeClient: Sendable {
  public let volume: Volume
  /// Writes handed to the store.
  private let begunWrites = Atomic<UInt64>(0)
  /// Writes that have ended.
  private let endedWrites = Atomic<UInt64>(0)
  /// Of the writes begun, how many a flush has covered.
  private let coveredWrites = Atomic<UInt64>(0)
  /// The volume's failures that this client has been told of.
  private let knownFailures: Atomic<UInt64>

  public init(of volume: Volume) {
    self.volume = volume
    knownFailures = Atomic(volume.durabilityFailureCount.load(ordering: .acquiring))
  }

  /// Whether some write of this client has not been covered by a flush.
  public var hasUnflushedWrites: Bool {
    begunWrites.load(ordering: .relaxed) != coveredWrites.load(ordering: .relaxed)
  }

  // The counters are statistics of one client. Its own requests follow one another through
  // completions, which synchronise; requests of one client that run at once on several ports
  // have no order, so relaxed operations lose nothing. Failures are published with release and
  // read with acquire: they must be seen by a flush that ends after the one that failed.

  func willWrite() {
    if !hasUnflushedWrites {
      // Nothing at stake until now: earlier failures were other writers'.
      knownFailures.store(
        volume.durabilityFailureCount.load(ordering: .acquiring), ordering: .relaxed)
    }
    begunWrites.wrappingAdd(1, ordering: .relaxed)
  }

  func didWrite() { endedWrites.wrappingAdd(1, ordering: .relaxed) }

  /// What a flush that begins now will cover: nothing new while a write is under way.
  func willFlush() -> UInt64 {
    let begun = begunWrites.load(ordering: .relaxed)
    let isSettled = endedWrites.load(ordering: .relaxed) == begun
    return isSettled ? begun : coveredWrites.load(ordering: .relaxed)
  }

  /// Settles a flush that covers `covered` writes.
  ///
  /// - Returns: false when writes of this client may have been lost since it was last told.
  func didFlush(covered: UInt64) -> Bool {
    let failures = volume.durabilityFailureCount.load(ordering: .acquiring)
    let known = knownFailures.exchange(failures, ordering: .relaxed)
    let isLost = known != failures && hasUnflushedWrites
    if covered > coveredWrites.load(ordering: .relaxed) {
      coveredWrites.store(covered, ordering: .relaxed)
    }
    return !isLost
  }
}
