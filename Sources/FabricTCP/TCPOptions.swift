import FabricPlatform

/// Choices of a TCP adapter.
public struct TCPOptions: Sendable {
  /// Whether FPDUs carry a checksum: they do when either side wants it.
  public enum Checksums: String, CaseIterable, Sendable {
    /// Wanted except between processes of one machine, whose bytes cross no wire.
    case automatic
    case always
    /// Not wanted. A peer that wants them has them.
    case never
  }

  public var checksums = Checksums.automatic
  /// Asks the peer for markers, which this side has no use for.
  public var wantsMarkers = false
  /// Connects as RFC 6581 says; without, as RFC 5044 alone.
  public var isEnhanced = true
  /// Offers RFC 7306's immediate data. Off for peers that do not know it, such as the Linux
  /// kernel's; a peer that does not and gets some ends the connection.
  public var hasImmediateData = true
  /// RDMA reads that each side may have under way on a connection.
  public var readDepth: UInt16 = 16
  /// Bytes of payload in a segment, 512 to 65000.
  public var segmentByteCount = 32768
  /// Whether `listen` takes addresses that other machines can reach.
  public var listensBeyondLoopback = true
  /// How long a peer may leave what was sent unacknowledged before it counts as gone.
  public var silence: Duration = .seconds(20)
  /// How long a peer may take for its part of the start-up.
  public var startUpTimeout: Duration = .seconds(5)
  /// Connections that a listener has from one address, those included whose request is awaited.
  public var connectionsPerAddress = 4096
  /// Peers of one address whose request a listener awaits; the oldest of them makes room.
  public var startUpsPerAddress = 256
  /// Peers whose request a listener awaits at all; the oldest makes room.
  public var startUps = 1024
  /// Told of what an operator should know, one line each, on the thread that polls a listener's
  /// events: that there are no descriptors left for who connects.
  public var log: @Sendable (String) -> Void = { _ in }

  public init() {}

  func wantsChecksums(with peer: InternetAddress) -> Bool {
    switch checksums {
    case .automatic: !peer.isLoopback
    case .always: true
    case .never: false
    }
  }
}
