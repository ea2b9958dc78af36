import FabricPlatform
import FabricVerbs

/// What a case has to judge a host with. Connections that it takes, and the program that it starts, end with it.
final class HostBench {
  private let target: HostTarget
  private let addresses: [FabricAddress]
  private let events: any ConnectionEventChannel
  let log = FrameLog()
  private let store = BlockMemory()
  private var units: [UnitEnd] = []
  private(set) var program: (any HostProgram)?
  /// Whether one has connected.
  var hasSeenHost: Bool { !units.isEmpty }
  var addressCount: Int { addresses.count }
  var hasKey: Bool { target.key != nil }
  /// How long a host may take to come.
  var patience: Duration { target.patience }

  init(_ target: HostTarget, _ addresses: [FabricAddress], _ events: any ConnectionEventChannel) {
    self.target = target
    self.addresses = addresses
    self.events = events
  }

  /// Takes the next host, which has not opened yet.
  func unit(_ plan: UnitEnd.Plan = UnitEnd.Plan(), within limit: Duration? = nil) throws -> UnitEnd
  {
    guard let unit = try unitOrNone(plan, within: limit ?? patience) else {
      throw Finding(
        "expected a host in \(limit ?? patience), got "
          + (program?.status.map { "none: the program has ended with \($0)" } ?? "none"))
    }
    return unit
  }

  /// Takes the next host; nil when none comes in time.
  func unitOrNone(_ plan: UnitEnd.Plan, within limit: Duration) throws -> UnitEnd? {
    if program == nil, let start = target.start {
      while let event = events.poll() {
        if case .connectRequest(let request) = event { request.reject(privateData: []) }
      }
      program = try start(addresses, HostTarget.volume)
    }
    var shape = Line.Shape()
    // More than the peer is told of, so that an overrun is seen as what it is.
    shape.receiveCount = max(16, Int(plan.receiveCount) * 2)
    shape.reposts = plan.reposts
    let line = try Line(target.adapter, log, shape)
    guard let request = try nextRequest(limit, line) else {
      line.close()
      return nil
    }
    try line.accept(request)
    line.wait(.seconds(5)) { line.isEstablished || line.end != nil }
    let unit = try UnitEnd(line, plan, store, key: target.key)
    units.append(unit)
    return unit
  }

  private func nextRequest(_ limit: Duration, _ line: Line) throws -> (any ConnectionRequest)? {
    var found: (any ConnectionRequest)?
    line.wait(limit) {
      while found == nil, let event = events.poll() {
        if case .connectRequest(let request) = event { found = request }
      }
      return found != nil || (found == nil && program?.status != nil)
    }
    return found
  }

  /// Waits until the program has ended; nil where there is none.
  func waitForProgram(_ limit: Duration, serving unit: UnitEnd? = nil) throws -> Int32? {
    guard let program else { return nil }
    let deadline = MonotonicTime.now + limit
    let line = try unit?.line ?? Line(target.adapter, log)
    while program.status == nil, .now < deadline {
      if let unit, !unit.isOver {
        try unit.serve(.milliseconds(50)) { program.status != nil }
      } else {
        line.wait(.milliseconds(50)) { program.status != nil }
      }
    }
    if unit == nil { line.close() }
    guard let status = program.status else {
      throw Finding("expected that the host's program ends in \(limit), got a living one")
    }
    return status
  }

  func close() {
    program?.end()
    for unit in units { unit.line.close() }
    units = []
  }
}
