import FabricPlatform
import Synchronization

/// A filter over any store that delays and fails requests as its plan says. For tests and drills.
public final class FaultStore: Store {
  public let base: any Store
  public let plan: FaultPlan
  /// How many requests each failure of the plan has chosen from.
  private let counts: Mutex<[UInt64]>

  public init(over base: any Store, plan: FaultPlan) {
    self.base = base
    self.plan = plan
    counts = Mutex(Array(repeating: 0, count: plan.failures.count))
  }

  public var blockByteCount: UInt32 { base.blockByteCount }
  public var blockCount: UInt64 { base.blockCount }
  public var isReadOnly: Bool { base.isReadOnly }
  /// None: what goes round the queues would go round the faults.
  public var directMemory: DirectMemory? { nil }
  public var hasUncorrectableBlocks: Bool { base.hasUncorrectableBlocks }
  public var accessDescription: String { "\(base.accessDescription), with faults" }

  public func grow() -> Bool { base.grow() }

  public func extent(of blocks: Range<UInt64>) -> BlockExtent { base.extent(of: blocks) }

  public func makeQueue(depth: Int) throws(StoreError) -> any StoreQueue {
    try FaultStoreQueue(store: self, base: base.makeQueue(depth: depth))
  }

  /// The status that the plan ends this request with; nil: hand it on.
  func failure(for request: BlockRequest) -> BlockStatus? {
    if plan.failures.isEmpty { return nil }
    return counts.withLock { counts in
      var status: BlockStatus? = nil
      for (index, failure) in plan.failures.enumerated() where failure.applies(to: request) {
        counts[index] += 1
        let number = counts[index]
        guard number >= failure.first else { continue }
        if let count = failure.count, number - failure.first >= count { continue }
        status = status ?? failure.status
      }
      return status
    }
  }

  /// How long the plan holds this request's completion back, in nanoseconds.
  func delay(of operation: BlockOperation) -> UInt64 {
    var total: UInt64 = 0
    for delay in plan.delays where delay.operation == nil || delay.operation == operation {
      total += delay.duration.nanoseconds
    }
    return total
  }
}
