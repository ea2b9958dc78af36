import FabricBounded
import FabricCompletion
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricWire

/// Connections: how they come.
extension RemoteVolumeQueue {
  /// Attempts a connection for a path. Without any other, it takes the place of all earlier ones.
  func connect(_ path: VolumePath) {
    path.reconnectAt = nil
    if !paths.paths.contains(where: { $0 !== path && $0.connection != nil }) { epoch += 1 }
    guard let number = nextNumber() else {
      return attemptFailed(
        path,
        .turnedAway(
          address: path.address,
          reason: "the unit has not fenced any of the last 256 connections yet"))
    }
    let name = ConnectionName(epoch: epoch, number: number)
    let opening = HostOpening(
      volumeName: path.address.volumeName, hostName: options.key?.name ?? options.hostName,
      session: session, epoch: name.epoch, number: name.number, access: options.access,
      depth: UInt16(options.depth))
    var channelOptions = ChannelOptions()
    channelOptions.key = options.key
    if let heartbeat = options.heartbeat { channelOptions.heartbeat = heartbeat }
    // The unit writes into requests' own memory; nothing is transferred to the host.
    channelOptions.bufferCount = 0
    // A request takes a message there and one back. Queues are used in turn from end to end: with many
    // hosts longer ones are not found in the cache again.
    let count = min(channelOptions.receiveCount, max(16, 2 * options.depth))
    channelOptions.receiveCount = count
    channelOptions.sendCount = count
    do throws(ProtocolFault) {
      channelOptions.greeting = try opening.encoded()
    } catch {
      return fail(.resource(error.description))
    }
    lastSerial &+= 1
    let connection = PathConnection(self, path: path, name: name, serial: lastSerial)
    path.connection?.giveUp()
    path.connection = connection
    path.serial = lastSerial
    path.endpoint.connect(
      to: path.address.unit, options: channelOptions, timeout: options.attemptTimeout,
      handler: connection
    ) { result in
      // By way of the connection: a weak reference would make each count of the queue's a slow one.
      guard let queue = connection.queue else {
        if case .success(let channel) = result { channel.close() }
        return
      }
      switch result {
      case .success(let channel): queue.connected(channel, of: path)
      case .failure(let error):
        queue.attemptFailed(path, .opening(error, of: path.address))
      }
    }
  }

  /// One that no other connection of the epoch goes by, as far as is known here; nil: all are taken, as
  /// when the medium hangs and connections come and go.
  private func nextNumber() -> UInt8? {
    for _ in 0...UInt8.max {
      lastNumber &+= 1
      let name = ConnectionName(epoch: epoch, number: lastNumber)
      if !dead.contains(where: { $0.name == name }),
        !paths.paths.contains(where: { $0.connection?.name == name })
      {
        return lastNumber
      }
    }
    return nil
  }

  private func connected(_ channel: Channel, of path: VolumePath) {
    path.channel = channel
    let opening: UnitOpening
    do throws(ProtocolFault) {
      opening = try UnitOpening(decoding: channel.peerGreeting)
    } catch {
      return attemptFailed(
        path, .foreign(address: path.address, reason: "\(path.address): \(error)"))
    }
    let found = RemoteVolumeInfo(opening, address: path.address)
    if let change = info.flatMap({ change(from: $0, to: found) }) {
      return attemptFailed(path, .volumeChanged(address: path.address, detail: change))
    }
    path.accessState = opening.pathState
    path.sentLimit = found.depth
    path.found = found
  }

  /// In what two answers differ that ought to be those of one volume.
  private func change(from old: RemoteVolumeInfo, to new: RemoteVolumeInfo) -> String? {
    if old.identifier != new.identifier {
      return "its identity was \(old.identifier) and is now \(new.identifier)"
    }
    if old.blockByteCount != new.blockByteCount || old.blockCount > new.blockCount {
      return "it had \(old.blockCount) blocks of \(old.blockByteCount) bytes and now has "
        + "\(new.blockCount) of \(new.blockByteCount)"
    }
    return nil
  }

  /// The unit takes commands: has it fence what was lost, then sends what waits. (IO-37)
  private func ready(_ path: VolumePath) {
    guard let found = path.found else { return }
    guard !mustWait(path) else {
      path.isHeldBack = true
      return
    }
    path.hasTried = true
    let isFirst = info == nil
    let hasGrown = info.map { found.blockCount > $0.blockCount } ?? false
    path.isReady = true
    path.hopelessness = nil
    info = found
    if path.isUsable { isRefusing = false }
    if path.counters.lossCount > 0 || path.backoff.attemptCount > 0 {
      options.log("connected to \(path.address)")
    }
    if case .connecting = state {
      state = .attached(found)
      // Without a connection no time of the unit's passed.
      readClock()
      isTimeFresh = false
      for index in 0..<slots.count { slots[index].submitted = coarseNow }
      if inFlightCount == 0 { isProven = true }
      handler.remoteVolume(self, changed: state)
    } else if hasGrown {
      state = .attached(found)
      handler.remoteVolume(self, changed: state)
    }
    guard path.isReady else { return }
    if isFirst {
      retryHopeless()
      resumeHeldBack()
    }
    // With nothing to prove itself by it counts as proven.
    if inFlightCount == 0 || path.counters.lossCount == 0 { path.hasProven() }
    sendFences()
    sendControls()
    postUnsent()
    flushSubmissions()
  }

  // MARK: Which volume it is

  /// Whether a path is ready too early: the volume is that of the first named path, as long as its first attempt
  /// to connect may bring it. Where addresses lead to different volumes, chance is not to choose.
  private func mustWait(_ path: VolumePath) -> Bool {
    info == nil && paths.paths[..<path.index].contains { !$0.hasTried && $0.hopelessness == nil }
  }

  /// Another path is ready, or has failed: goes on with those that waited for it.
  func resumeHeldBack() {
    for path in paths.paths where path.isHeldBack && !mustWait(path) {
      guard let found = path.found else { continue }
      path.isHeldBack = false
      if let change = info.flatMap({ change(from: $0, to: found) }) {
        attemptFailed(path, .volumeChanged(address: path.address, detail: change))
      } else {
        ready(path)
      }
    }
  }

  /// The volume is there: paths that failed at first are worth further attempts.
  private func retryHopeless() {
    for path in paths.paths where path.connection == nil && path.hopelessness?.isForGood == false {
      path.hopelessness = nil
      planAttempt(path)
    }
  }

  /// What the unit says over a connection.
  func received(
    _ messages: Span<IncomingMessage>, over channel: Channel, of connection: PathConnection
  ) {
    readClock()
    for index in messages.indices {
      guard isSound(messages[index], of: connection) else {
        report()
        guard connection.queue != nil else { return }
        return lost(
          connection, because: "the unit sent a message that the protocol does not know")
      }
      // `report` may have closed the queue.
      guard connection.queue != nil else { return }
    }
    report()
    postUnsent()
    // What was submitted meanwhile may go by the others.
    if onlyPath == nil { flushPaths(but: connection.path.index) }
    isTimeFresh = false
  }

  private func isSound(_ message: IncomingMessage, of connection: PathConnection) -> Bool {
    let path = connection.path
    if message.isPushCompletion {
      return path.isReady
        && pushCompleted(tag: RequestTag(rawValue: message.tag), over: connection.serial)
    }
    guard message.buffer == nil else { return false }
    if message.kind == MessageKind.response.rawValue {
      guard path.isReady, let response = try? ResponseCapsule(decoding: message.payload) else {
        return false
      }
      return response.tag.rawValue == message.tag
        && responded(response, over: connection.serial)
    }
    return isSoundOfPath(message, of: connection)
  }

  /// Messages that are not about one request.
  private func isSoundOfPath(_ message: IncomingMessage, of connection: PathConnection) -> Bool {
    let path = connection.path
    switch MessageKind(rawValue: message.kind) {
    case .ready:
      guard !path.isReady, !path.isHeldBack, path.found != nil, message.payload.byteCount == 0
      else { return false }
      ready(path)
    case .fenced:
      guard path.isReady, let answer = try? FenceAnswer(decoding: message.payload) else {
        return false
      }
      return fenced(answer, over: connection)
    case .controlAnswer: return controlAnswered(message, over: connection)
    case .pathState:
      guard let notice = try? PathStateNotice(decoding: message.payload) else { return false }
      guard path.accessState != notice.state else { return true }
      path.accessState = notice.state
      if path.isUsable { isRefusing = false }
      options.log("the unit calls \(path.address) \(notice.state) now")
    default: return false
    }
    return true
  }

  /// Forgets a path's connection, if there is one.
  func drop(_ path: VolumePath) {
    let old = path.channel
    // Those who are at work here do not count: nothing goes before they have returned.
    service.keepToRoundEnd(self)
    if let old { service.keepToRoundEnd(old) }
    if let connection = path.connection { service.keepToRoundEnd(connection) }
    path.connection?.fenced?.isAsked = false
    path.connection?.giveUp()
    path.connection = nil
    path.channel = nil
    path.found = nil
    path.isReady = false
    path.isHeldBack = false
    path.isProven = false
    path.sentCount = 0
    old?.close()
  }
}
