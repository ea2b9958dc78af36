import FabricPlatform
import FabricVerbs

/// What a case has to judge a unit with. Connections that it makes end with it.
final class UnitBench {
  let target: UnitTarget
  let log = FrameLog()
  private var hosts: [HostEnd] = []

  init(_ target: UnitTarget) { self.target = target }

  /// A host that is not connected yet.
  func host(_ shape: Line.Shape = Line.Shape()) throws -> HostEnd {
    let host = HostEnd(target, try Line(target.adapter, log, shape))
    hosts.append(host)
    return host
  }

  /// A host whose channel is open.
  func openHost(
    _ change: (inout OpeningRecord) -> Void = { _ in },
    greeting: (inout HostGreeting) -> Void = { _ in }
  ) throws -> HostEnd {
    let host = try host()
    let answer = try host.openChannel(change, greeting: greeting)
    if (1..<16).contains(answer.blockCount) {
      throw NotApplicable("the judge wants a volume of 16 blocks at least")
    }
    return host
  }

  func close() {
    for host in hosts { host.line.close() }
    hosts = []
  }

  /// Throws unless the operator lets the volume be written to.
  func needsWriting() throws {
    guard target.mayWrite else {
      throw NotApplicable("it writes to the volume: run with --overwrite where that may be")
    }
  }

  /// Opens a channel as any honest host would: a unit that no longer takes one has died of the case before.
  func checkLife() throws {
    do {
      let host = try host()
      try host.openChannel()
    } catch { throw Finding("expected that the unit still takes an honest host, but: \(error)") }
  }
}
