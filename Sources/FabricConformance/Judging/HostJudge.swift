import FabricPlatform
public import FabricVerbs

/// Puts cases to hosts that connect, one connection after the other.
///
/// Threads: confined to one, which it blocks.
public final class HostJudge {
  private let target: HostTarget
  private let listeners: [any Listener]
  private let events: any ConnectionEventChannel
  private var absence = Absence()

  /// Listens.
  public init(_ target: HostTarget) throws {
    self.target = target
    events = try target.adapter.makeEventChannel()
    listeners = try target.addresses.map { [events] in
      try target.adapter.listen(at: $0, events: events)
    }
  }

  deinit { for listener in listeners { listener.close() } }

  /// Where hosts are expected.
  public var addresses: [FabricAddress] { listeners.map(\.address) }

  /// Puts a case to the next host that comes; after three in a row for which none came no further one is put.
  public func judge(_ conformanceCase: ConformanceCase) -> Judgement {
    let bench = HostBench(target, addresses, events)
    defer { bench.close() }
    return Judgement(of: conformanceCase, log: bench.log) {
      try absence.check("host that came")
      do { try conformanceCase.run(host: bench) } catch let reason as NotApplicable {
        // Perhaps before anybody could come.
        throw reason
      } catch {
        absence.note(isThere: bench.hasSeenHost)
        throw error
      }
      absence.note(isThere: true)
    }
  }
}
