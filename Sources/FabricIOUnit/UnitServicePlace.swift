public import FabricCompletion
public import FabricVerbs

/// What a unit gives to a service.
public struct UnitServicePlace {
  private let fabric: UnitFabric
  /// Carries the unit on.
  public var service: CompletionService { fabric.service }
  /// How many fabrics the unit has.
  public var fabricCount: Int { fabric.endpoints.count }

  init(_ fabric: UnitFabric) { self.fabric = fabric }

  /// Memory that can be sent from over each of the fabrics.
  public func allocate(byteCount: Int) throws(RegistrationError) -> SharedUnitMemory {
    SharedUnitMemory(try fabric.allocate(byteCount: byteCount))
  }
}

/// Memory that is registered with each of a unit's fabrics. It goes with the object.
public final class SharedUnitMemory: Sendable {
  private let memory: UnitMemory
  public var address: UInt64 { memory.address }

  init(_ memory: UnitMemory) { self.memory = memory }

  /// What work requests over a fabric name it with.
  public func localKey(fabric: Int) -> LocalKey { memory.localKey(fabric) }
}
