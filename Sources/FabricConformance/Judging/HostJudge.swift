import FabricPlatform
public import FabricVerbs

/// Puts cases to hosts that connect, one connection after the other.
///
/// Threads: confined to one, which it blocks.
public final class HostJudge {
  private let target: HostTarget
  private let listener: any Listener
  private let events: any ConnectionEventChannel

  /// Listens.
  public init(_ target: HostTarget) throws {
    self.target = target
    events = try target.adapter.makeEventChannel()
    listener = try target.adapter.listen(at: target.address, events: events)
  }

  deinit { listener.close() }

  /// Where hosts are expected.
  public var address: FabricAddress { listener.address }

  public func judge(_ conformanceCase: ConformanceCase) -> Judgement {
    let bench = HostBench(target, listener, events)
    defer { bench.close() }
    return Judgement(of: conformanceCase, log: bench.log) { try conformanceCase.run(host: bench) }
  }
}
