/// Choices of an RDMA adapter.
public struct RDMAOptions: Sendable {
  /// The device's name, as in `iohost discover --fabrics`; nil for the one that an address leads to, or
  /// else the first whose port is active.
  public var device: String?
  /// Whether `listen` takes addresses that other machines can reach.
  public var listensBeyondLoopback = true
  /// Whether private data goes over InfiniBand and RoCE as it is, for peers that are not ours: what comes
  /// is filled up with zeroes to what a message holds, 56 bytes or more. Otherwise, between adapters of
  /// ours, its length goes with it.
  public var hasPlainPrivateData = false
  /// Told of what an operator should know, one line each, on the thread that polls events: which
  /// device, port and GID the connection manager chose for a peer, each choice once.
  public var log: @Sendable (String) -> Void = { _ in }

  public init() {}
}
