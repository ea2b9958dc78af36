public import FabricStorage

/// Choices of a front end that its protocol does not make.
public struct FrontEndOptions: Sendable {
  /// Connections in all.
  public var connections = 4096
  /// Connections from one address, or of one process over Unix sockets.
  public var connectionsPerOrigin = 1024
  /// How long a peer may take until its handler says that it is known (`ServedStream.isKnown`).
  public var handshakeTimeout: Duration = .seconds(10)
  /// How long a TCP peer may leave what was sent unacknowledged before it counts as gone.
  public var silence: Duration = .seconds(20)
  /// How long a peer may keep buffers without moving any data while others wait for some.
  public var stallTimeout: Duration = .seconds(10)
  /// Bytes that one stream may have queued for its peer before its input rests.
  public var outputByteLimit = 4 << 20
  /// Requests in flight in one volume's port, of all connections.
  public var portDepth = 1024
  /// Bytes of one element of `FrontEnd.buffers`.
  public var bufferByteCount = 128 << 10
  /// Elements that there are at most; made when they are first needed.
  public var bufferCount = 256
  /// Bytes of all larger buffers together.
  public var largeBufferByteLimit = 128 << 20
  /// Where buffers come from.
  public var memory: any DataMemorySource = PlainMemory()
  /// What whoever is named may do with which volumes; nil: everybody everything.
  public var rights: VolumeRights?
  /// Told of what an operator might want to know, one line each, on the service's thread.
  public var log: @Sendable (String) -> Void = { _ in }

  public init() {}
}
