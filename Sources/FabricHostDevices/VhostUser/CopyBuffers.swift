import FabricBounded
import FabricHostDriver
import FabricVerbs

/// Memory of the volume's through which data is copied, in pieces of one size.
@safe
final class CopyBuffers {
  /// What a piece is used for.
  struct Use: BitwiseCopyable {
    /// Where its data begins within the request's.
    var offset: UInt32 = 0
    var byteCount: UInt32 = 0
  }

  /// Copies are made and sent in turn: longer pieces would only wait for each other.
  private static let pieceLimit = 128 << 10

  let pieceByteCount: Int
  let region: MemoryRegion
  let free: IndexPool
  let uses: FixedTable<Use>

  init(
    byteCount: Int, limit: Int, blockByteCount: Int, volume: RemoteVolumeQueue
  ) throws(RegistrationError) {
    let most = max(blockByteCount, min(limit, Self.pieceLimit))
    pieceByteCount = most / blockByteCount * blockByteCount
    let count = max(1, min(byteCount / pieceByteCount, Int(UInt16.max) - 1))
    region = try volume.allocate(byteCount: count * pieceByteCount)
    free = IndexPool(capacity: count)
    uses = FixedTable(repeating: Use(), count: count)
  }

  func address(_ index: Int) -> UInt64 { region.address + UInt64(index * pieceByteCount) }

  func element(_ index: Int, byteCount: Int) -> ScatterGatherElement {
    region.element(offset: index * pieceByteCount, byteCount: byteCount)
  }
}
