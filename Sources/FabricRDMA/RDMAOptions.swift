/// Choices of an RDMA adapter.
public struct RDMAOptions: Sendable {
  /// The device's name, as in `iohost discover --fabrics`; nil for the one that an address leads to, or
  /// else the first whose port is active.
  public var device: String?
  /// Whether `listen` takes addresses that other machines can reach.
  public var listensBeyondLoopback = true
  /// Told of what an operator should know, one line each, on the thread that polls events: which
  /// device, port and GID the connection manager chose for a peer, each choice once.
  public var log: @Sendable (String) -> Void = { _ in }

  public init() {}
}
