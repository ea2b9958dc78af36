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
    self.init(
      address: address, unitName: opening.unitName, identifier: opening.volume,
      blockByteCount: opening.blockByteCount, blockCount: opening.blockCount,
      access: opening.access,
      maximumTransferByteCount: Int(opening.maximumTransferByteCount), depth: Int(opening.depth))
  }

  /// - Parameter maximumTransferByteCount: what does not make a whole block of it is left out.
  public init(
    address: VolumeAddress, unitName: String, identifier: VolumeIdentifier,
    blockByteCount: UInt32, blockCount: UInt64, access: VolumeAccess,
    maximumTransferByteCount: Int, depth: Int
  ) {
    self.address = address
    self.unitName = unitName
    self.identifier = identifier
    self.blockByteCount = blockByteCount
    self.blockCount = blockCount
    self.access = access
    let block = Int(max(1, blockByteCount))
    self.maximumTransferByteCount = maximumTransferByteCount / block * block
    self.depth = depth
  }

  /// The same with more blocks.
  func grown(to blockCount: UInt64) -> Self {
    Self(
      address: address, unitName: unitName, identifier: identifier, blockByteCount: blockByteCount,
      blockCount: blockCount, access: access,
      maximumTransferByteCount: maximumTransferByteCount, depth: depth)
  }

  public var byteCount: UInt64 { blockCount * UInt64(blockByteCount) }
}
