public import FabricCompletion
public import FabricPlatform
public import FabricStorage

/// Who cannot go on for want of a buffer or of room in a port.
public protocol FrontEndWaiter: AnyObject {
  /// Something came free: goes on as far as possible.
  ///
  /// - Returns: whether it waits no more. Who does comes again, behind the others.
  func retry() -> Bool
}

/// Carries a front end's connections: over byte streams (`StreamFrontEnd`), queue pairs, channels. All
/// calls come on the service's thread.
public protocol FrontEndCarrier: AnyObject {
  /// Sends what is queued at all connections.
  func flush()
  /// Tells of the connections whose peers keep buffers until they send or take something, each with what
  /// grows as they do.
  func forEachDebtor(_ body: (_ number: UInt32, _ progress: UInt64) -> Void)
  /// The least that a debtor's progress must grow from one look to the next, where it is to count as any.
  var leastProgress: UInt64 { get }
  /// Looks at which a debtor may have made none until it ends.
  var debtorPatience: Int { get }
  /// Ends a connection that was told of.
  func endDebtor(_ number: UInt32)
  /// Takes nobody any more and ends every connection.
  func endConnections()
  /// Nothing that a connection had asked for is under way any more.
  func leaveService()
}

/// What front ends share, whatever their protocol comes over: ports on the volumes, buffers, waiting,
/// the stay in the common layer.
///
/// Threads: `init`, `stop` and what says so on any but the service's own; everything else on the first
/// thread of the service, which has threads of its own. Several front ends, and an I/O unit, may share a
/// service.
public final class FrontEnd: Subsystem, TimedSource, @unchecked Sendable {
  public let name: String
  public let layer: CommonLayer
  public let options: FrontEndOptions
  public let service: CompletionService
  /// Memory for what moves between connections and stores.
  public let buffers: DataBuffers
  private let refusals: RefusalLog
  private var registration: Registration!
  private var carrier: (any FrontEndCarrier)?
  private var ports: [ServedPort] = []
  private var waiters: [any FrontEndWaiter] = []
  private var isRetrying = false
  private var shares: [[UInt8]: Share] = [:]
  /// When somebody waits: when it is looked at whether debtors have moved anything, and what they had moved
  /// the last time.
  public private(set) var nextDeadline: MonotonicTime?
  private var debtors: [UInt32: Debtor] = [:]
  /// Whether somebody has waited since.
  private var hasWaited = false
  /// Whether who waits is to be asked again at the end of what is running now.
  private var hasNews = false

  private struct Debtor {
    var progress: UInt64
    /// Looks since it made any.
    var idleLookCount = 0
  }

  /// - Parameters:
  ///   - name: unique in the common layer.
  ///   - service: has one or more threads of its own and outlives this object.
  /// - Throws: `.subsystem` when the layer refuses it.
  public init(
    name: String, layer: CommonLayer, service: CompletionService,
    options: FrontEndOptions = .init()
  ) throws(FrontEndError) {
    self.name = name
    self.layer = layer
    self.service = service
    self.options = options
    refusals = RefusalLog(service, log: options.log)
    buffers = DataBuffers(
      elementByteCount: options.bufferByteCount, elementCount: options.bufferCount,
      largeByteLimit: options.largeBufferByteLimit, source: options.memory)
    do throws(CommonLayerError) {
      registration = try layer.register(self)
    } catch { throw .subsystem(error.description) }
  }

  // MARK: Any thread

  /// Has connections carried from now on, until `stop`.
  public func begin(_ carrier: any FrontEndCarrier) {
    onThread { [self] in
      self.carrier = carrier
      service.add(self as any TimedSource)
      service.add(refusals)
    }
  }

  /// Takes nobody any more, ends every connection, lets what ports had accepted end, and returns when
  /// nothing is called any more. The service goes on. A second call has no effect. (ST-41)
  public func stop() {
    guard registration != nil else { return }
    onThread { [self] in carrier?.endConnections() }
    registration.deregister()
    onThread { [self] in
      for port in ports { service.remove(port) }
      service.remove(self as any TimedSource)
      service.remove(refusals)
      carrier?.leaveService()
      ports = []
      waiters = []
      // These hold each other.
      carrier = nil
    }
    registration = nil
  }

  public func portNeedsPoll(_ port: VolumePort) {
    service.execute { [self] in for port in ports { port.needsPoll = true } }
  }

  /// Runs `body` on the service's thread and returns what it returns.
  public func onThread<Value: Sendable>(_ body: @escaping () -> Value) -> Value {
    let job = UncheckedJob(body: body)
    return service.result(of: { job.body() })
  }

  private struct UncheckedJob<Value>: @unchecked Sendable {
    let body: () -> Value
  }

  // MARK: Volumes

  /// The volumes that whoever is named may see, by name, and the most that it may do with each.
  public func volumes(for host: String) -> [(volume: Volume, access: VolumeAccess)] {
    layer.volumes.compactMap { volume in
      let access = options.rights.map { $0.access(of: host, to: volume) } ?? volume.access
      return access.map { (volume, $0) }
    }
  }

  /// The port on a volume with certain rights; opened when it is first asked for.
  ///
  /// - Throws: as `Registration.openPort`.
  public func port(
    on volume: Volume, access: VolumeAccess
  ) throws(CommonLayerError) -> ServedPort {
    if let port = ports.first(where: { $0.volume === volume && $0.access == access }) {
      return port
    }
    let port = try ServedPort(
      volume, access: access, depth: options.portDepth, frontEnd: self, registration: registration)
    ports.append(port)
    service.add(port)
    return port
  }

  // MARK: Waiting

  /// Has `waiter` asked again when a buffer or room in a port came free. Once until it waits no more.
  public func wait(_ waiter: any FrontEndWaiter) {
    waiters.append(waiter)
    hasWaited = true
    if nextDeadline == nil { lookAtDebtors(at: .now, areDue: false) }
  }

  /// Forgets who waits.
  public func stopWaiting(_ waiter: any FrontEndWaiter) { waiters.removeAll { $0 === waiter } }

  public func progress(at now: MonotonicTime) -> Int { lookAtDebtors(at: now, areDue: true) }

  /// Looks at who keeps buffers, once in a while for as long as others wait.
  ///
  /// - Parameter areDue: those that have moved nothing for as many looks as they may end.
  /// - Returns: how many ended.
  @discardableResult
  private func lookAtDebtors(at now: MonotonicTime, areDue: Bool) -> Int {
    guard hasWaited || !waiters.isEmpty else {
      nextDeadline = nil
      debtors = [:]
      return 0
    }
    hasWaited = false
    var found: [UInt32: Debtor] = [:]
    var stalled: [UInt32] = []
    let least = carrier?.leastProgress ?? 1
    let patience = carrier?.debtorPatience ?? 1
    carrier?.forEachDebtor { number, progress in
      guard areDue, let known = debtors[number], progress &- known.progress < least else {
        found[number] = Debtor(progress: progress)
        return
      }
      let count = known.idleLookCount + 1
      if count >= patience { stalled.append(number) }
      found[number] = Debtor(progress: known.progress, idleLookCount: count)
    }
    for number in stalled {
      found[number] = nil
      carrier?.endDebtor(number)
    }
    debtors = found
    nextDeadline = now + options.stallTimeout
    service.deadlinesHaveChanged()
    return stalled.count
  }

  // MARK: Shares

  private struct Share {
    weak var holding: DataBuffers.Holding?
  }

  /// What a host has of the buffers, over all of its connections to this front end. Keep it as long as
  /// there is one.
  ///
  /// - Parameter origin: the host's address.
  public func share(of origin: [UInt8]) -> DataBuffers.Holding {
    if let known = shares[origin]?.holding { return known }
    shares = shares.filter { $0.value.holding != nil }
    let holding = DataBuffers.Holding()
    shares[origin] = Share(holding: holding)
    return holding
  }

  // MARK: What came free

  /// Something came free that others may wait for; they go on before this returns, unless one of them
  /// says it. To be said by who gives a buffer back.
  public func somethingCameFree() {
    guard !waiters.isEmpty else { return }
    hasNews = true
    guard !isRetrying else { return }
    isRetrying = true
    // Once more for what those who went on have given back; what is left is for the next flush.
    for _ in 0..<2 where hasNews {
      hasNews = false
      // Each once, those that wait on going to the end: who was served first waits last.
      for _ in 0..<waiters.count {
        guard !waiters.isEmpty else { break }
        let waiter = waiters.removeFirst()
        if !waiter.retry() { waiters.append(waiter) }
      }
    }
    isRetrying = false
  }

  /// Sends what is queued at all connections. Done at the end of each round; to be said by who queues
  /// something outside of the calls of a connection or a port.
  public func flush() {
    carrier?.flush()
    if hasNews, !waiters.isEmpty { somethingCameFree() }
  }

  /// For the log: that a peer was refused; not every one of a flood.
  public func refused(_ words: String) { refusals.refused(words) }

  /// For the log: one line.
  public func log(_ words: String) { options.log(words) }
}
