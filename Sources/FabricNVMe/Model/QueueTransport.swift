/// What a queue comes over, as far as its controller must know.
public struct QueueTransport: Equatable, Sendable {
  /// That of the admin queue is that of all queues of a controller.
  public var kind: DiscoveryEntry.Transport
  /// Bytes of data that come with a command of an I/O queue, at most; a multiple of 16.
  public var inCapsuleByteCount: Int

  public init(kind: DiscoveryEntry.Transport, inCapsuleByteCount: Int) {
    self.kind = kind
    self.inCapsuleByteCount = inCapsuleByteCount
  }
}
