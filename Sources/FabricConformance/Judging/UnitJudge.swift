/// Puts cases to a unit, one after the other.
///
/// Each step of a case waits a few seconds at most, so that none hangs. A unit that takes no honest host after a case
/// has failed it, whatever else it did; after three such cases in a row no further one is put.
///
/// Threads: confined to one, which it blocks.
public final class UnitJudge {
  private let target: UnitTarget
  private var absence = Absence()

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
      try absence.check("unit that takes an honest host")
      var failure: (any Error)?
      do { try conformanceCase.run(unit: bench) } catch { failure = error }
      bench.close()
      do {
        try bench.checkLife()
        absence.note(isThere: true)
      } catch {
        absence.note(isThere: false)
        throw failure is Finding ? failure! : error
      }
      if let failure { throw failure }
    }
  }
}
