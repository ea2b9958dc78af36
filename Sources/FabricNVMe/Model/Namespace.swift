public import FabricStorage

/// A volume, by the number that hosts know it by.
public struct Namespace: Sendable {
  /// From 1 on, in the order in which volumes came; that of a volume that is gone is its own still.
  public let number: UInt32
  public let volume: Volume

  /// log2 of a block's bytes.
  public var blockShift: UInt8 {
    UInt8(truncatingIfNeeded: volume.blockByteCount.trailingZeroBitCount)
  }

  /// The volume's identity as NGUID and UUID: the same bytes, so that all of a volume's paths are known
  /// to be of one namespace.
  var identifierBytes: [UInt8] {
    [volume.identifier.high, volume.identifier.low].flatMap { word in
      (0..<8).map { UInt8(truncatingIfNeeded: word >> (56 - 8 * UInt64($0))) }
    }
  }
}
