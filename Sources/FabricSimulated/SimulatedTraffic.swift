public import FabricVerbs

/// A request on its way to the peer, as `SimulatedNetwork.alteration` sees it.
public struct SimulatedTraffic {
  /// The adapter that it comes from.
  public let sender: String
  /// Of the sender.
  public let queuePairNumber: UInt32
  public let opcode: SendOpcode
  public var bytes: [UInt8]
  /// Where the opcode has one.
  public var immediate: UInt32
}

/// What becomes of a request on its way.
public enum SimulatedFate: Sendable {
  case delivered
  /// Its sender takes it for delivered.
  case lost
}
