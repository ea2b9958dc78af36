import FabricBounded
import FabricCompletion
import FabricIOProtocol
import FabricMessaging
import FabricStorage
import FabricVerbs

/// What one thread of a unit owns: connections, sessions, ports, memory for reads. Confined to
/// that thread.
final class UnitShard {
  /// In `pushes`: the element is not on its way to anybody.
  static let nobody = UInt32.max

  let options: IOUnitServer.Options
  let layer: CommonLayer
  let fabric: UnitFabric
  let service: CompletionService
  let registration: Registration
  let readPool: ReadPool
  /// For each element of the read pool, the connection whose channel has it.
  let pushes: FixedTable<UInt32>
  private var volumes: [ServedVolume] = []
  private var sessions = SessionTable()
  private var connections: [UnitConnection?] = []
  /// Accepted, the channel not up yet.
  private var opening: [(greeting: [UInt8], connection: UnitConnection)] = []
  private var discoveries: [DiscoveryConnection] = []
  /// Connections with deferred commands, served in turn.
  private var waiting: [UnitConnection] = []
  /// Connections whose channels hold something to be posted.
  private var touched: [UnitConnection] = []
  private var quiescing: [UnitConnection] = []
  private(set) var connectionCount = 0
  private let refusals: RefusalLog
  /// Where the unit listens.
  var places: [UnitPlace] = []
  let delayedAnswers: DelayedAnswers
  private var drills: [PathDrill] = []

  init(
    options: IOUnitServer.Options, layer: CommonLayer, fabric: UnitFabric,
    service: CompletionService, registration: Registration
  ) throws(RegistrationError) {
    self.options = options
    self.layer = layer
    self.fabric = fabric
    self.service = service
    self.registration = registration
    readPool = try ReadPool(
      fabric: fabric, elementCount: options.readElementCount,
      elementByteCount: options.maximumTransferByteCount)
    pushes = FixedTable(repeating: Self.nobody, count: options.readElementCount)
    refusals = RefusalLog(service, log: options.log)
    service.add(refusals)
    delayedAnswers = DelayedAnswers(service)
    delayedAnswers.didAnswer = { [unowned self] in
      flushTouched()
      retryDeferred()
    }
    service.add(delayedAnswers)
  }

  func log(_ words: String) { options.log(words) }

  /// Logs that a peer was refused; not every one of a flood.
  func logRefusal(of peer: ChannelPeer, because reason: String) {
    refusals.refused("refused \(peer): \(reason)")
  }

  func connection(_ number: Int) -> UnitConnection? {
    number < connections.count ? connections[number] : nil
  }

  // MARK: Accepting

  /// Judges a host's opening; what it is given is taken by `opened`.
  ///
  /// - Parameter place: where it came to.
  func accept(greeting: [UInt8], peer: ChannelPeer, place: UnitPlace) -> AcceptDecision {
    for service in options.services {
      if let decision = service.accept(greeting: greeting, peer: peer, fabric: place.endpoint) {
        if case .reject(let reason) = decision { logRefusal(of: peer, because: reason) }
        return decision
      }
    }
    do {
      let host = try HostOpening(decoding: greeting)
      if let name = peer.keyName, name != host.hostName {
        throw ForeignName(name: host.hostName, keyName: name)
      }
      if host.volumeName.isEmpty { return try acceptDiscovery(of: host.hostName) }
      let visible = volumes(for: host.hostName)
      guard let (volume, access) = visible.first(where: { $0.volume.name == host.volumeName })
      else {
        throw CommonLayerError.noSuchVolume(
          name: host.volumeName, available: visible.map { $0.volume.name })
      }
      if host.access == .readWrite, access == .readOnly {
        throw CommonLayerError.readOnlyVolume(name: volume.name)
      }
      return try accept(host, greeting: greeting, volume: volume, peer: peer, place: place)
    } catch {
      logRefusal(of: peer, because: "\(error)")
      return .reject(reason: "\(error)")
    }
  }

  /// What a host sees, by name, and the most that it may do with each.
  func volumes(for host: String) -> [(volume: Volume, access: VolumeAccess)] {
    layer.volumes.compactMap { volume in
      let access = options.rights.map { $0.access(of: host, to: volume) } ?? volume.access
      return access.map { (volume, $0) }
    }
  }

  /// A host with a key that gives another name.
  private struct ForeignName: Error, CustomStringConvertible {
    let name: String
    let keyName: String
    var description: String {
      "expected the host to call itself as its key is called, \"\(keyName)\", got \"\(name)\""
    }
  }

  private func accept(
    _ host: HostOpening, greeting: [UInt8], volume: Volume, peer: ChannelPeer, place: UnitPlace
  ) throws -> AcceptDecision {
    let served = try served(volume, access: host.access)
    let depth = min(Int(host.depth), options.depth)
    let answer = try UnitOpening(
      unitName: options.unitName, volume: volume.identifier,
      blockByteCount: volume.blockByteCount, blockCount: volume.blockCount, access: host.access,
      maximumTransferByteCount: UInt32(options.maximumTransferByteCount), depth: UInt16(depth),
      pathState: place.state
    ).encoded()
    let session = sessions.session(
      UnitSession.Key(volume: volume.identifier, host: host.hostName, session: host.session),
      volume: volume)
    if let reason = session.refusal(of: host) {
      if session.connections.isEmpty { sessions.didBecomeIdle(session) }
      return .reject(reason: reason)
    }
    let number = connections.firstIndex { $0 == nil } ?? connections.count
    let connection = UnitConnection(
      number: number, opening: host, peer: "\(peer)", served: served, session: session,
      depth: depth, maximumTransferByteCount: UInt32(options.maximumTransferByteCount),
      shard: self, place: place)
    if number == connections.count { connections.append(nil) }
    connections[number] = connection
    connectionCount += 1
    opening.append((greeting, connection))
    session.add(connection)
    log("\(connection.name): attached" + (host.epoch > 1 ? " again, epoch \(host.epoch)" : ""))
    return .accept(greeting: answer, handler: connection)
  }

  private func acceptDiscovery(of host: String) throws -> AcceptDecision {
    let answer = try UnitOpening(
      unitName: options.unitName, volume: VolumeIdentifier(high: 0, low: 0), blockByteCount: 0,
      blockCount: 0, access: .readOnly, maximumTransferByteCount: 0, depth: 1
    ).encoded()
    let connection = DiscoveryConnection(
      volumes: { [unowned self] in volumes(for: host) },
      addresses: { [unowned self] in places.flatMap(\.reachable) },
      didClose: { [unowned self] closed in discoveries.removeAll { $0 === closed } })
    discoveries.append(connection)
    return .accept(greeting: answer, handler: connection)
  }

  /// A channel that was accepted is up.
  func opened(_ channel: Channel) {
    let greeting = channel.peerGreeting
    guard let index = opening.firstIndex(where: { $0.greeting == greeting }) else {
      _ = options.services.first { $0.opened(channel) }
      return
    }
    opening.remove(at: index).connection.opened(channel)
  }

  private func served(
    _ volume: Volume, access: VolumeAccess
  ) throws(CommonLayerError) -> ServedVolume {
    if let served = volumes.first(where: { $0.volume === volume && $0.access == access }) {
      return served
    }
    let served = try ServedVolume(
      volume, access: access, depth: options.portDepth, shard: self, registration: registration,
      directMemory: fabric.memory(of: volume.store))
    volumes.append(served)
    service.add(served)
    return served
  }

  // MARK: Work

  /// Remembers that a connection has deferred commands.
  func wait(_ connection: UnitConnection) { waiting.append(connection) }

  /// Something came free: hands deferred commands on, one connection after the other.
  func retryDeferred() {
    guard !waiting.isEmpty else { return }
    var remaining: [UnitConnection] = []
    for connection in waiting {
      if connection.state == .ready, !connection.retryDeferred() {
        remaining.append(connection)
      } else {
        connection.isWaiting = false
      }
    }
    // Who was served first waits last the next time.
    if let first = remaining.first, remaining.count > 1 {
      remaining.removeFirst()
      remaining.append(first)
    }
    waiting = remaining
  }

  /// Remembers to post what a connection's channel holds.
  @inline(__always)
  func touch(_ connection: UnitConnection) {
    if connection.isTouched { return }
    connection.isTouched = true
    touched.append(connection)
  }

  /// Posts what channels hold since completions were handed out.
  func flushTouched() {
    for connection in touched {
      connection.isTouched = false
      connection.channel?.flush()
    }
    touched.removeAll(keepingCapacity: true)
  }

  /// Changes the state of the paths through a place, and tells the hosts that use them.
  func setState(_ state: PathState, of place: UnitPlace) {
    place.state = state
    for connection in connections where connection?.place === place {
      connection?.tellStateIfChanged()
    }
  }

  /// Adds a place where the unit listens.
  func add(_ place: UnitPlace) {
    places.append(place)
    guard let cuts = place.place.cuts else { return }
    let drill = PathDrill(place, cuts, shard: self)
    drills.append(drill)
    service.add(drill)
  }

  /// Cuts every connection through a place.
  func cut(_ place: UnitPlace) {
    for connection in connections where connection?.place === place { connection?.fence() }
  }

  // MARK: Closing

  var hasQuiescing: Bool { !quiescing.isEmpty }

  /// Waits for what the port has of a connection.
  func beginQuiesce(_ connection: UnitConnection) {
    opening.removeAll { $0.connection === connection }
    quiescing.append(connection)
    connection.served.needsPoll = true
    connection.served.port.quiesce(connection.client)
  }

  /// All that the port had of a client has ended.
  func quiesced(_ client: UInt32, of served: ServedVolume) {
    guard
      let index = quiescing.firstIndex(where: { $0.client == client && $0.served === served })
    else { return }
    let connection = quiescing.remove(at: index)
    let session = connection.session
    for element in 0..<pushes.count where pushes[element] == UInt32(connection.number) {
      connection.pushed(element)
    }
    connection.finish()
    connections[connection.number] = nil
    connectionCount -= 1
    session.remove(connection)
    if session.connections.isEmpty { sessions.didBecomeIdle(session) }
    for other in session.connections {
      other.sendReadyIfSettled()
      other.answerFenceIfSettled()
    }
    retryDeferred()
  }

  /// Ends what hosts come for besides volumes.
  func stopServices() {
    for service in options.services { service.stop() }
  }

  /// Closes every channel; connections go as their work ends.
  func closeAll() {
    for connection in connections { connection?.fence() }
  }

  /// A port is closing, which it does in its next poll.
  func pollAll() {
    for served in volumes { served.needsPoll = true }
  }

  /// The ports are closed: nothing is to be carried on.
  func leaveService() {
    for served in volumes { service.remove(served) }
    service.remove(refusals)
    service.remove(delayedAnswers)
    for drill in drills { service.remove(drill) }
    volumes = []
    connections = []
    discoveries = []
  }
}
