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

/// What front ends share whose protocol comes over byte streams: listening sockets, streams, ports on
/// the volumes, buffers, the stay in the common layer. The protocol is the handlers'.
///
/// Threads: `init`, `stop` and what says so on any but the service's own; everything else, and all
/// calls of handlers, on the first thread of the service, which has threads of its own. Several front
/// ends, and an I/O unit, may share a service.
public final class FrontEnd: Subsystem, @unchecked Sendable {
  public let name: String
  public let layer: CommonLayer
  public let options: FrontEndOptions
  public let service: CompletionService
  /// Where it listens, in the order given, with ports that the system chose.
  public private(set) var addresses: [StreamAddress] = []
  /// Memory for what moves between streams and stores.
  public let buffers: DataBuffers
  private var registration: Registration!
  private var server: StreamServer!
  private var ports: [ServedPort] = []
  private var waiters: [any FrontEndWaiter] = []
  private var isRetrying = false
  /// Whether who waits is to be asked again at the end of what is running now.
  private var hasNews = false

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - name: unique in the common layer.
  ///   - service: has one or more threads of its own and outlives this object.
  ///   - addresses: at least one.
  ///   - makeHandler: called for each connection, before anything of it is looked at. Keep `frontEnd`
  ///     unowned.
  /// - Throws: `FrontEndError`; nothing is left behind.
  public init(
    name: String, layer: CommonLayer, service: CompletionService, addresses: [StreamAddress],
    options: FrontEndOptions = .init(),
    makeHandler:
      @escaping @Sendable (_ stream: ServedStream, _ frontEnd: FrontEnd) ->
      any StreamHandler
  ) throws(FrontEndError) {
    precondition(!addresses.isEmpty, "a front end listens somewhere")
    self.name = name
    self.layer = layer
    self.service = service
    self.options = options
    buffers = DataBuffers(
      elementByteCount: options.bufferByteCount, elementCount: options.bufferCount,
      largeByteLimit: options.largeBufferByteLimit)
    do throws(CommonLayerError) {
      registration = try layer.register(self)
    } catch { throw .subsystem(error.description) }
    do throws(FrontEndError) {
      let server = try StreamServer(service: service, options: options) { [unowned self] stream in
        makeHandler(stream, self)
      }
      self.server = server
      let started = onThread { () -> Result<[StreamAddress], FrontEndError> in
        do throws(FrontEndError) {
          try server.listen(at: addresses)
          return .success(server.addresses)
        } catch {
          server.stopListening()
          return .failure(error)
        }
      }
      self.addresses = try started.get()
    } catch {
      server = nil
      registration.deregister()
      registration = nil
      throw error
    }
  }

  // MARK: Any thread

  /// Streams that there are now. Waits for the service's thread; not from there.
  public var streamCount: Int { onThread { [self] in server?.streamCount ?? 0 } }

  /// Takes nobody any more, resets every stream, lets what ports had accepted end, and returns when
  /// nothing is called any more. The service goes on. A second call has no effect. (ST-41)
  public func stop() {
    guard server != nil else { return }
    onThread { [self] in
      server.stopListening()
      server.resetAll()
    }
    registration.deregister()
    onThread { [self] in
      for port in ports { service.remove(port) }
      server.leaveService()
      ports = []
      waiters = []
    }
    // These hold each other.
    registration = nil
    server = nil
  }

  public func portNeedsPoll(_ port: VolumePort) {
    service.execute { [self] in for port in ports { port.needsPoll = true } }
  }

  /// Runs `body` on the service's thread and returns what it returns.
  private func onThread<Value: Sendable>(_ body: @escaping () -> Value) -> Value {
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

  /// Sends what is queued at all streams. Done at the end of each round; to be said by who queues
  /// something outside of the calls of a stream or a port.
  public func flush() {
    server.flushTouched()
    if hasNews, !waiters.isEmpty { somethingCameFree() }
  }

  /// For the log: one line.
  public func log(_ words: String) { options.log(words) }
}
