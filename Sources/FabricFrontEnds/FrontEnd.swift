public import FabricCompletion
import FabricPlatform
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
public final class FrontEnd: Subsystem, @unchecked Sendable {
  public let name: String
  public let layer: CommonLayer
  public let options: FrontEndOptions
  public let service: CompletionService
  /// Memory for what moves between connections and stores.
  public let buffers: DataBuffers
  private var registration: Registration!
  private var carrier: (any FrontEndCarrier)?
  private var ports: [ServedPort] = []
  private var waiters: [any FrontEndWaiter] = []
  private var isRetrying = false
  /// Whether who waits is to be asked again at the end of what is running now.
  private var hasNews = false

  /// - Parameters:
  ///   - name: unique in the common layer.
  ///   - service: has one or more threads of its own and outlives this object.
  ///   - memory: where buffers come from.
  /// - Throws: `.subsystem` when the layer refuses it.
  public init(
    name: String, layer: CommonLayer, service: CompletionService,
    options: FrontEndOptions = .init(), memory: any DataMemorySource = PlainMemory()
  ) throws(FrontEndError) {
    self.name = name
    self.layer = layer
    self.service = service
    self.options = options
    buffers = DataBuffers(
      elementByteCount: options.bufferByteCount, elementCount: options.bufferCount,
      largeByteLimit: options.largeBufferByteLimit, source: memory)
    do throws(CommonLayerError) {
      registration = try layer.register(self)
    } catch { throw .subsystem(error.description) }
  }

  // MARK: Any thread

  /// Has connections carried from now on, until `stop`.
  public func begin(_ carrier: any FrontEndCarrier) {
    onThread { [self] in self.carrier = carrier }
  }

  /// Takes nobody any more, ends every connection, lets what ports had accepted end, and returns when
  /// nothing is called any more. The service goes on. A second call has no effect. (ST-41)
  public func stop() {
    guard registration != nil else { return }
    onThread { [self] in carrier?.endConnections() }
    registration.deregister()
    onThread { [self] in
      for port in ports { service.remove(port) }
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
  public func wait(_ waiter: any FrontEndWaiter) { waiters.append(waiter) }

  /// Forgets who waits.
  public func stopWaiting(_ waiter: any FrontEndWaiter) { waiters.removeAll { $0 === waiter } }

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

  /// For the log: one line.
  public func log(_ words: String) { options.log(words) }
}
