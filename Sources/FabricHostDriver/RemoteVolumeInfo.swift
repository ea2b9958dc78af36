public import FabricIOProtocol
public import FabricStorage

/// What a unit says of a volume.
public struct RemoteVolumeInfo: Equatable, Sendable {
  public let address: VolumeAddress
  public let unitName: String
  public let identifier: VolumeIdentifier
  public let blockByteCount: UInt32
  public let blockCount: UInt64
  public let access: VolumeAccess
  /// The most bytes of one request.
  public let maximumTransferByteCount: Int
  /// The most requests in flight.
  public let depth: Int

  public init(_ opening: UnitOpening, address: VolumeAddress) {
    self.address = address
    unitName = opening.unitName
    identifier = opening.volume
    blockByteCount = opening.blockByteCount
    blockCount = opening.blockCount
    access = opening.access
    maximumTransferByteCount =
      Int(opening.maximumTransferByteCount / max(1, opening.blockByteCount))
      * Int(opening.blockByteCount)
    depth = Int(opening.depth)
  }

  public var byteCount: UInt64 { blockCount * UInt64(blockByteCount) }
}
