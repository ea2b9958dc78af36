import FabricBounded
import FabricVerbs

/// Registered memory that reads from a store go through, in elements of one size. Confined to its
/// shard's thread.
final class ReadPool {
  private let region: MemoryRegion
  private let protectionDomain: any ProtectionDomain
  private let free: IndexPool
  let elementByteCount: Int

  init(
    protectionDomain: any ProtectionDomain, elementCount: Int, elementByteCount: Int
  ) throws(RegistrationError) {
    self.protectionDomain = protectionDomain
    self.elementByteCount = elementByteCount
    region = try protectionDomain.allocate(
      byteCount: elementCount * elementByteCount, access: [.localWrite])
    free = IndexPool(capacity: elementCount)
  }

  deinit { protectionDomain.deregister(region) }

  var freeCount: Int { free.count }
  var capacity: Int { free.capacity }

  func take() -> Int? { free.take() }
  func give(_ index: Int) { free.give(index) }

  func address(of index: Int) -> UInt64 {
    region.address &+ UInt64(index &* elementByteCount)
  }

  /// The first `byteCount` bytes of an element, for a work request.
  func element(_ index: Int, byteCount: Int) -> ScatterGatherElement {
    region.element(offset: index &* elementByteCount, byteCount: byteCount)
  }
}
