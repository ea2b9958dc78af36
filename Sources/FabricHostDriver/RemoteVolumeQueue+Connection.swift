import FabricBounded
import FabricCompletion
import FabricIOProtocol
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricWire

/// One connection's handler: events of a connection that was given up reach nobody.
final class Link: ChannelHandler {
  /// Until the connection is given up.
  var queue: RemoteVolumeQueue? { didSet { reference = queue.map { UncountedReference($0) } } }
  /// The same, for each message.
  private var reference: UncountedReference<RemoteVolumeQueue>?

  init(_ queue: RemoteVolumeQueue) {
    self.queue = queue
    reference = UncountedReference(queue)
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    reference?.with { $0.received(messages, over: channel) }
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {}

  func prepare(_ step: PreparationStep) {
    if step == .user {
      reference?.prefetch(byteCount: RemoteVolumeQueue.hotByteCount)
    } else {
      reference?.with { $0.prefetchTables() }
    }
  }

  func channelCanSend(_ channel: Channel) { queue?.postUnsent() }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    queue?.lost(self, because: "\(reason)")
  }
}

extension RemoteVolumeQueue {
  /// Attempts a connection that takes the place of all earlier ones.
  func connect() {
    epoch += 1
    let opening = HostOpening(
      volumeName: address.volumeName, hostName: options.key?.name ?? options.hostName,
      session: session, epoch: epoch, access: options.access, depth: UInt16(options.depth))
    var channelOptions = ChannelOptions()
    channelOptions.key = options.key
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
    let link = Link(self)
    self.link?.queue = nil
    self.link = link
    endpoint.connect(
      to: address.unit, options: channelOptions, timeout: options.attemptTimeout, handler: link
    ) { result in
      // By way of the link: a weak reference would make each count of the queue's a slow one.
      guard let queue = link.queue, queue.link === link else {
        if case .success(let channel) = result { channel.close() }
        return
      }
      switch result {
      case .success(let channel): queue.connected(channel)
      case .failure(let error):
        queue.attemptFailed(RemoteVolumeError.opening(error, of: queue.address))
      }
    }
  }

  private func connected(_ channel: Channel) {
    self.channel = channel
    let found: RemoteVolumeInfo
    do throws(ProtocolFault) {
      found = RemoteVolumeInfo(
        try UnitOpening(decoding: channel.peerGreeting), address: address)
    } catch {
      dropLink()
      return fail(.unreachable(address: address, reason: "\(address): \(error)"))
    }
    if let change = info.flatMap({ change(from: $0, to: found) }) {
      dropLink()
      return fail(.volumeChanged(address: address, detail: change))
    }
    info = found
    sentLimit = found.depth
  }

  /// In what two answers differ that ought to be those of one volume.
  private func change(from old: RemoteVolumeInfo, to new: RemoteVolumeInfo) -> String? {
    if old.identifier != new.identifier {
      return "its identity was \(old.identifier) and is now \(new.identifier)"
    }
    if old.blockByteCount != new.blockByteCount || old.blockCount != new.blockCount {
      return "it had \(old.blockCount) blocks of \(old.blockByteCount) bytes and now has "
        + "\(new.blockCount) of \(new.blockByteCount)"
    }
    return nil
  }

  /// The unit takes commands: sends what waits, first what the old connection left. (IO-37)
  private func ready() {
    isReady = true
    if case .connecting = state, let info {
      if reconnectCount > 0 || backoff.attemptCount > 0 {
        options.log("connected to \(address)")
      }
      state = .attached(info)
      // Without a connection no time of the unit's passed.
      for index in 0..<slots.count { slots[index].submitted = coarseNow }
      if inFlightCount == 0 { hasProven() }
      handler.remoteVolume(self, changed: state)
    }
    postUnsent()
  }

  /// The connection does what it is for: only now does the next loss begin anew. One that opens
  /// and breaks before a request has ended is but another failed attempt.
  func hasProven() {
    isProven = true
    backoff.succeeded()
  }

  func received(_ messages: Span<IncomingMessage>, over channel: Channel) {
    guard isOver(channel) else { return }
    for index in messages.indices {
      let message = messages[index]
      var isSound = false
      if message.isPushCompletion {
        isSound = isReady && pushCompleted(tag: RequestTag(rawValue: message.tag))
      } else if message.kind == MessageKind.response.rawValue {
        if isReady, message.buffer == nil,
          let response = try? ResponseCapsule(decoding: message.payload)
        {
          isSound = response.tag.rawValue == message.tag && responded(response)
        }
      } else if message.kind == MessageKind.ready.rawValue, !isReady {
        isSound = message.payload.byteCount == 0
        if isSound { ready() }
      }
      guard isSound else {
        report()
        guard let link else { return }
        channel.close()
        return lost(link, because: "the unit sent a message that the protocol does not know")
      }
      // `report` may have closed the queue.
      guard isOver(channel) else { return }
    }
    report()
    postUnsent()
  }

  /// Whether `channel` is the connection's now.
  private func isOver(_ channel: Channel) -> Bool { channelReference?.refers(to: channel) ?? false }

  // MARK: Loss

  /// The connection has gone: keeps what was not acknowledged for the next.
  func lost(_ link: Link, because reason: String) {
    guard link === self.link else { return }
    let wasProven = isProven
    dropLink()
    requeue()
    switch state {
    case .attached:
      if wasProven { lostAt = .now }
      lossReason = reason
      reconnectCount += 1
      state = .connecting
      if wasProven { options.log("lost \(address), because \(reason); connecting again") }
      handler.remoteVolume(self, changed: state)
      guard case .connecting = state else { return }
      if wasProven {
        connect()
      } else {
        attemptFailed(.turnedAway(address: address, reason: reason))
      }
    case .connecting:
      attemptFailed(.turnedAway(address: address, reason: reason))
    case .failed, .closed: break
    }
  }

  /// Marks everything that was sent as unsent, in an order that does not matter: requests in
  /// flight at once have none. (IO-36)
  private func requeue() {
    unsent.removeAll()
    doomed.removeAll()
    for index in 0..<slots.count where slots[index].isTaken {
      takeBackLoan(index)
      slots[index].isSent = false
      slots[index].generation = (slots[index].generation &+ 1) & 0x7FFF
      unsent.push(index)
    }
    sentCount = 0
  }

  private func attemptFailed(_ error: RemoteVolumeError) {
    guard case .connecting = state else { return }
    dropLink()
    let reason = error.description
    lossReason = reason
    if case .unproven = error { return fail(error) }
    if info == nil {
      // Later a refusal may heal: the unit may be on its way to be what it was.
      if case .refused = error { return fail(error) }
      if !mayTryAgainAtFirst(after: error) { return fail(error) }
    }
    var generator = SystemRandomNumberGenerator()
    let wait = backoff.next(using: &generator)
    options.log(
      "attempt \(backoff.attemptCount), next in \(RemoteVolumeError.seconds(wait)), "
        + "because \(reason)")
    timer?.reconnectAt = .now + wait
  }

  /// Whether a first attempt has another behind it: where the user is patient, and, for as long as
  /// one attempt may take, where the unit was there and hung up. In a flood of strangers it does so
  /// with who was unlucky.
  private func mayTryAgainAtFirst(after error: RemoteVolumeError) -> Bool {
    if options.isPatientAtFirst { return true }
    guard case .turnedAway = error else { return false }
    return .now < lostAt + options.attemptTimeout
  }

  /// Gives up: everything ends, now and later.
  func fail(_ error: RemoteVolumeError) {
    dropLink()
    timer?.reconnectAt = nil
    state = .failed(error)
    handler.remoteVolume(self, changed: state)
    if case .failed = state { endAll() }
  }

  /// Forgets the connection, if there is one.
  func dropLink() {
    let old = channel
    // Those who are at work here do not count: nothing goes before they have returned.
    service.keepToRoundEnd(self)
    if let old { service.keepToRoundEnd(old) }
    link?.queue = nil
    link = nil
    channel = nil
    isReady = false
    isProven = false
    old?.close()
  }
}
