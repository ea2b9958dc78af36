/// Where a listener is: a fabric and a place in it.
public struct FabricAddress: Hashable, Sendable, CustomStringConvertible {
  /// The fabric: `shm`, `tcp`, `rdma`, `sim`.
  public let fabric: String
  /// What the fabric calls the place: a socket's path, or HOST:PORT.
  public let endpoint: String

  public init(fabric: String, endpoint: String) {
    self.fabric = fabric
    self.endpoint = endpoint
  }

  /// As on the command line: `shm:PATH`, `tcp:HOST:PORT`, `rdma:HOST:PORT`.
  public var description: String { "\(fabric):\(endpoint)" }
}
