import FabricBounded
import FabricIOProtocol
import FabricStorage

/// How a connection's last commands ended, reads aside. (IO-52)
///
/// A host has at most `depth` commands that it knows no end of. What ended after one of them is among
/// these, as answers arrive in order: so many places are enough for all that it may ask about.
final class OutcomeRing {
  private let outcomes: FixedTable<FenceAnswer.Outcome>
  private var next = 0

  init(depth: Int) {
    outcomes = FixedTable(
      repeating: FenceAnswer.Outcome(tag: RequestTag(rawValue: .max)), count: depth)
  }

  func record(_ tag: RequestTag, _ status: BlockStatus, transferredByteCount: UInt32) {
    outcomes[next] = FenceAnswer.Outcome(
      tag: tag, transferredByteCount: transferredByteCount, status: status)
    next = next &+ 1 == outcomes.count ? 0 : next &+ 1
  }

  /// What is known of a command.
  subscript(tag: RequestTag) -> FenceAnswer.Outcome {
    for index in 0..<outcomes.count where outcomes[index].tag == tag { return outcomes[index] }
    return FenceAnswer.Outcome(tag: tag)
  }
}
