/// Puts cases to a unit, one after the other.
///
/// Each step of a case waits a few seconds at most, so that none hangs. A unit that takes no honest host after a case
/// has failed it, whatever else it did.
///
/// Threads: confined to one, which it blocks.
public struct UnitJudge {
  private let target: UnitTarget

  public init(_ target: UnitTarget) { self.target = target }

  /// Throws, in words, unless the unit takes an honest host: then there is nothing to judge.
  public func checkReach() throws {
    let bench = UnitBench(target)
    defer { bench.close() }
    try bench.host().openChannel()
  }

  public func judge(_ conformanceCase: ConformanceCase) -> Judgement {
    let bench = UnitBench(target)
    defer { bench.close() }
    return Judgement(of: conformanceCase, log: bench.log) {
      try conformanceCase.run(unit: bench)
      bench.close()
      try bench.checkLife()
    }
  }
}
