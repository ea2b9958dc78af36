import FabricBounded
import FabricVerbs

/// Registered memory that reads from a store go through, in elements of one size. Confined to its
/// shard's thread.
final class ReadPool {
  private let memory: UnitMemory
  private let free: IndexPool
  let elementByteCount: Int

  init(
    fabric: UnitFabric, elementCount: Int, elementByteCount: Int
  ) throws(RegistrationError) {
    self.elementByteCount = elementByteCount
    memory = try fabric.allocate(byteCount: elementCount * elementByteCount)
    free = IndexPool(capacity: elementCount)
  }

  var freeCount: Int { free.count }
  var capacity: Int { free.capacity }

  func take() -> Int? { free.take() }
  func give(_ index: Int) { free.give(index) }

  func address(of index: Int) -> UInt64 {
    memory.address &+ UInt64(index &* elementByteCount)
  }

  /// What work requests of an endpoint name the pool's memory with.
  func localKey(_ endpoint: Int) -> LocalKey { memory.localKey(endpoint) }

  /// The first `byteCount` bytes of an element, for a work request.
  func element(_ index: Int, byteCount: Int, key: LocalKey) -> ScatterGatherElement {
    precondition(byteCount <= elementByteCount, "outside the element")
    return ScatterGatherElement(
      address: address(of: index), byteCount: UInt32(truncatingIfNeeded: byteCount), localKey: key)
  }
}
