public import FabricCompletion
public import FabricFrontEnds
public import FabricNVMe
public import FabricPlatform
public import FabricStorage
public import FabricVerbs

/// Lets hosts reach an NVM subsystem over one adapter's queue pairs: over RDMA devices, or, by user-space
/// iWARP, over plain TCP. (NVMe over Fabrics 1.1, section 7.3)
///
/// Threads: `init` and `stop` on any but the service's own; everything else on its first thread.
public final class NVMeRDMAServer: FrontEndCarrier, TimedSource, @unchecked Sendable {
  /// Where it listens, with ports that the system chose.
  public private(set) var addresses: [FabricAddress] = []
  private let frontEnd: FrontEnd
  private let target: NVMeTarget
  private let service: CompletionService
  private let adapter: any Adapter
  private let domain: any ProtectionDomain
  private let events: any ConnectionEventChannel
  private let completionQueues: CompletionQueues
  private var listeners: [any Listener] = []
  private var queues: [UInt32: RDMAQueue] = [:]
  /// Those whose queue pairs are about to go.
  private var leaving: [UInt32: RDMAQueue] = [:]
  private var touched: [UncountedReference<RDMAQueue>] = []
  /// Queues whose hosts have not said who they are, and those that are closing.
  private var handshakes = DeadlineQueue()
  private var endings = DeadlineQueue()
  /// Nothing is being polled: what ends goes at once.
  private var isStopping = false

  /// The most time between the last completion of a queue and its end.
  private static let endingTime: Duration = .seconds(2)

  /// Starts to serve.
  ///
  /// - Parameters:
  ///   - target: the subsystem, on the same service.
  ///   - adapter: with RDMA reads. One with devices must take private data plain.
  ///   - addresses: the adapter's, at least one.
  /// - Throws: `FrontEndError`; nothing is left behind.
  public init(
    _ target: NVMeTarget, layer: CommonLayer, service: CompletionService, adapter: any Adapter,
    addresses: [FabricAddress], options: FrontEndOptions = .init()
  ) throws(FrontEndError) {
    precondition(adapter.capabilities.hasRemoteRead, "NVMe hosts have their data fetched")
    self.target = target
    self.service = service
    self.adapter = adapter
    do {
      domain = try adapter.makeProtectionDomain()
      events = try adapter.makeEventChannel()
      // What a limit on locked memory forbids is better said now.
      let trial = try domain.allocate(
        byteCount: DataBuffers.elementsPerChunk * options.bufferByteCount, access: .localWrite)
      domain.deregister(trial)
    } catch { throw .system("\(error)") }
    completionQueues = CompletionQueues(adapter, service)
    var options = options
    options.memory = RegisteredMemory(domain: domain)
    frontEnd = try FrontEnd(
      name: "NVMe/RDMA \(addresses[0])", layer: layer, service: service, options: options)
    frontEnd.begin(self)
    do throws(FrontEndError) {
      try frontEnd.onThread { [self] in
        Result { () throws(FrontEndError) in
          try listen(at: addresses)
        }
      }.get()
    } catch {
      frontEnd.stop()
      throw error
    }
    self.addresses = listeners.flatMap(\.addresses)
    target.add(
      self.addresses.compactMap { address in
        let place = try? InternetAddress.resolve(address.endpoint).first
        return place.map { DiscoveryEntry(transport: .rdma, at: $0) }
      })
  }

  /// Ends every connection, lets what ports had accepted end, and returns when nothing is called any
  /// more.
  public func stop() { frontEnd.stop() }

  /// Connections that there are now. Waits for the service's thread.
  public var connectionCount: Int { frontEnd.onThread { [self] in queues.count } }

  private func listen(at addresses: [FabricAddress]) throws(FrontEndError) {
    service.add(self as any TimedSource)
    service.add(events) { [unowned self] event in handle(event) }
    for address in addresses {
      do throws(ConnectError) {
        listeners.append(try adapter.listen(at: address, events: events))
      } catch { throw .listening(address: "\(address)", reason: error.description) }
    }
  }

  // MARK: Connections

  private func handle(_ event: ConnectionEvent) {
    switch event {
    case .connectRequest(let request):
      do {
        try admit(request)
      } catch {
        let refusal = error as? ConnectionRefusal ?? .noResources
        frontEnd.refused("refused nvme \(request.peerDescription): \(error)")
        request.reject(privateData: refusal.encoded)
      }
    case .established(let queuePair, _): queues[queuePair.number]?.established()
    case .failed(let queuePair, _), .disconnected(let queuePair, _):
      queues[queuePair.number]?.end()
    }
  }

  private func admit(_ request: any ConnectionRequest) throws {
    let options = target.subsystem.options
    let parameters = try ConnectionParameters(
      decoding: request.privateData, queueCount: options.queueCount, depth: options.queueDepth)
    let origin = Self.origin(of: request.peerDescription)
    try checkLimits(origin)
    let workCount = RDMAQueue.workCount(parameters.entryCount)
    let completionQueue = try completionQueues.take(workCount)
    let queue: RDMAQueue
    do {
      queue = try RDMAQueue(
        target, frontEnd: frontEnd, server: self, peer: request.peerDescription,
        origin: origin, entryCount: parameters.entryCount, queue: parameters.queue,
        adapter: adapter, domain: domain, completionQueue: completionQueue)
    } catch {
      completionQueues.give(completionQueue, workCount)
      throw error
    }
    let number = queue.queuePair.number
    queues[number] = queue
    service.monitor(queue.queuePair, on: completionQueue, handler: queue)
    flush()
    do {
      try request.accept(
        queue.queuePair, privateData: ConnectionParameters.answer(receiveCount: queue.entryCount),
        events: events)
    } catch {
      queue.end()
      frontEnd.refused("refused nvme \(request.peerDescription): \(error)")
      return
    }
    queue.deadline = .now + frontEnd.options.handshakeTimeout
    handshakes.prune { queues[$0]?.isKnown ?? true }
    handshakes.add(number, at: queue.deadline)
    service.deadlinesHaveChanged()
  }

  /// Connections take much memory before their hosts have said who they are.
  private static let unknownLimit = 64

  private func checkLimits(_ origin: [UInt8]) throws(ConnectionRefusal) {
    let limits = frontEnd.options
    guard queues.values.count(where: { $0.origin == origin }) < limits.connectionsPerOrigin,
      queues.count < limits.connections || makeRoom()
    else { throw .noResources }
    if queues.values.count(where: { !$0.isKnown }) >= Self.unknownLimit { _ = makeRoom() }
  }

  /// An address without its port.
  private static func origin(of peer: String) -> [UInt8] {
    Array(peer.utf8.prefix(upTo: peer.utf8.lastIndex(of: UInt8(ascii: ":")) ?? peer.utf8.endIndex))
  }

  /// Ends the oldest peer that has not said who it is. False when there is none.
  private func makeRoom() -> Bool {
    for number in handshakes.numbers {
      guard let queue = queues[number], !queue.isKnown else { continue }
      queue.end()
      return true
    }
    return false
  }

  /// The queue's connection is no more; its queue pair goes behind the poll that is under way.
  func finish(_ queue: RDMAQueue) {
    guard !queue.hasGone else { return }
    queue.hasGone = true
    queues[queue.queuePair.number] = nil
    if queue.isTouched { touched.removeAll { $0.refers(to: queue) } }
    queue.queuePair.disconnect()
    if isStopping { return release(queue) }
    let number = queue.queuePair.number
    leaving[number] = queue
    service.execute { [self] in leaving.removeValue(forKey: number).map(release) }
  }

  private func release(_ queue: RDMAQueue) {
    service.stopMonitoring(queue.queuePair)
    queue.queuePair.destroy()
    completionQueues.give(queue.completionQueue, RDMAQueue.workCount(queue.entryCount))
    queue.connectionHasEnded()
  }

  // MARK: Carrying

  /// Remembers that a queue has something to be posted.
  func touch(_ queue: RDMAQueue) {
    if queue.isTouched { return }
    queue.isTouched = true
    touched.append(UncountedReference(queue))
  }

  public func forEachDebtor(_ body: (_ number: UInt32, _ progress: UInt64) -> Void) {
    for (number, queue) in queues where queue.isDebtor { body(number, queue.progress) }
  }

  /// What a peer has moved is only known request by request.
  public var debtorPatience: Int { 6 }
  public var leastProgress: UInt64 { 1 }

  public func endDebtor(_ number: UInt32) {
    guard let queue = queues[number] else { return }
    frontEnd.log("\(queue.name): \(StreamEnd.stalled); the connection is closed")
    queue.end()
  }

  public func flush() {
    var index = 0
    while index < touched.count {
      touched[index].with { $0.post() }
      index &+= 1
    }
    touched.removeAll(keepingCapacity: true)
  }

  public func endConnections() {
    isStopping = true
    for listener in listeners { listener.close() }
    listeners = []
    for queue in Array(queues.values) { queue.end() }
  }

  public func leaveService() {
    service.remove(events)
    completionQueues.leaveService()
    service.remove(self as any TimedSource)
  }

  // MARK: Time

  /// Ends a queue that is closing when the time has come.
  func await(_ queue: RDMAQueue) {
    queue.deadline = .now + Self.endingTime
    endings.add(queue.queuePair.number, at: queue.deadline)
    service.deadlinesHaveChanged()
  }

  public var nextDeadline: MonotonicTime? {
    [handshakes.first, endings.first].compactMap { $0 }.min()
  }

  public func progress(at now: MonotonicTime) -> Int {
    var count = 0
    while let number = handshakes.next(at: now) {
      // A number may be another queue's by now.
      guard let queue = queues[number], !queue.isKnown, queue.deadline <= now else { continue }
      frontEnd.refused("\(queue.peerName): it did not say who it is in time")
      queue.end()
      count += 1
    }
    while let number = endings.next(at: now) {
      guard let queue = queues[number], queue.isClosing, queue.deadline <= now else { continue }
      queue.end()
      count += 1
    }
    return count
  }
}
