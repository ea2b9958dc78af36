import FabricBounded
public import FabricCompletion
import FabricMessaging
import FabricNIC
public import FabricPlatform
import FabricVerbs

/// One connection's handler: events of a connection that was given up reach nobody.
final class NICConnection: ChannelHandler {
  /// Until the connection is given up.
  weak var nic: HostNIC?
  private var reference: UncountedReference<HostNIC>?

  init(_ nic: HostNIC) {
    self.nic = nic
    reference = UncountedReference(nic)
  }

  func giveUp() {
    nic = nil
    reference = nil
  }

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    reference?.with { $0.received(messages, over: channel) }
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    reference?.with { nic in
      for index in tokens.indices { nic.slots.free.give(Int(tokens[index])) }
    }
  }

  func channelCanSend(_ channel: Channel) { nic?.canSend() }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    nic?.lost(self, because: "\(reason)")
  }
}

/// Connections: how they come and go. (NI-4, NI-20, NI-21)
extension HostNIC {
  func connect() {
    reconnectAt = nil
    var channelOptions = ChannelOptions()
    channelOptions.key = options.key
    channelOptions.heartbeat = options.heartbeat
    channelOptions.bufferCount = options.bufferCount
    channelOptions.bufferByteCount = FrameSlots.usualByteCount
    do {
      // What is there may have been given another address meanwhile.
      let opening = HostNICOpening(
        nicName: options.nicName, hostName: options.key?.name ?? options.hostName,
        session: session,
        address: whereabouts == .elsewhere ? granted ?? .none : try port.interface.address())
      channelOptions.greeting = try opening.encoded()
    } catch { return fail(.interface("\(error)")) }
    let connection = NICConnection(self)
    self.connection?.giveUp()
    self.connection = connection
    endpoint.connect(
      to: unit, options: channelOptions, timeout: options.attemptTimeout, handler: connection
    ) { result in
      guard let nic = connection.nic else {
        if case .success(let channel) = result { channel.close() }
        return
      }
      switch result {
      case .success(let channel): nic.connected(channel)
      case .failure(let error): nic.attemptFailed(error)
      }
    }
  }

  private func connected(_ channel: Channel) {
    do {
      let opening = try UnitNICOpening(decoding: channel.peerGreeting)
      guard channel.peerBufferByteCount >= FrameRecord.maximumByteCount else {
        channel.close()
        return fail(
          .unfit(
            "expected \(unit) to have buffers of \(FrameRecord.maximumByteCount) bytes at least, got "
              + "\(channel.peerBufferByteCount)"))
      }
      self.channel = channel
      unitName = opening.unitName
      granted = opening.address
      if whereabouts == .here, try port.interface.address() != opening.address {
        try port.interface.setAddress(opening.address)
      }
      hasBeenAttached = true
      backoff.succeeded()
      options.log("connected to \(options.nicName) at \(unit) as \(opening.address)")
      adopt(opening.link)
    } catch {
      channel.close()
      attemptFailed(.protocolMismatch("\(error)"))
    }
  }

  /// The unit's port is now like this.
  func adopt(_ link: LinkNotice) {
    if case .attached(let old) = state, old == link { return }
    mtu = link.mtu
    setMTU { $0 != link.mtu }
    do { try port.setCarrier(link.isUp) } catch { options.log("\(error)") }
    linkChangeCount += 1
    // A unit that changes its mind for ever is not to fill the log.
    if linkChangeCount <= 100 || linkChangeCount.isMultiple(of: 1000) {
      options.log("\(port.interface): link \(link.isUp ? "up" : "down"), MTU \(link.mtu)")
    }
    state = .attached(link)
  }

  /// Gives the interface the unit's MTU where its own `isWrong`. (NI-20)
  private func setMTU(where isWrong: (Int) -> Bool) {
    guard whereabouts == .here else { return }
    do {
      if isWrong(try port.interface.mtu()) { try port.interface.setMTU(mtu) }
    } catch { warn("\(error)") }
  }

  /// Says once what goes wrong each second.
  private func warn(_ words: String) {
    if words != lastWarning { options.log(words) }
    lastWarning = words
  }

  func lost(_ connection: NICConnection, because reason: String) {
    guard self.connection === connection else { return }
    options.log("lost \(unit), because \(reason); connecting again")
    drop()
    state = .connecting(reason)
    connect()
  }

  private func attemptFailed(_ error: ChannelOpenError) {
    drop()
    // What was once attached is worth every further attempt: keys are changed, units are updated.
    let isForGood = !hasBeenAttached && (isHopeless(error) || !options.isPatientAtFirst)
    let failure = HostNICError.opening(error, unit: unit)
    guard !isForGood else { return fail(failure) }
    let words = failure.description
    var generator = SystemRandomNumberGenerator()
    let wait = backoff.next(using: &generator)
    if backoff.attemptCount <= 10 || backoff.attemptCount.isMultiple(of: 60) {
      options.log("attempt \(backoff.attemptCount) failed, because \(words)")
    }
    state = .connecting(words)
    reconnectAt = .now + wait
    service.deadlinesHaveChanged()
  }

  /// Whether a further attempt at a unit that never took this host is worth nothing.
  private func isHopeless(_ error: ChannelOpenError) -> Bool {
    switch error {
    case .unproven, .protocolMismatch, .invalidOptions, .resources: true
    default: false
    }
  }

  private func fail(_ error: HostNICError) {
    drop()
    state = .failed(error)
  }

  /// Forgets the connection, if there is one: the interface has no carrier.
  func drop() {
    connection?.giveUp()
    connection = nil
    channel = nil
    waiting = nil
    waitingControls = []
    claimed = nil
    // What was under way goes with the queue pair.
    slots.free.reset()
    try? port.setCarrier(false)
    endAskers()
  }
}

extension HostNIC: TimedSource {
  /// How often it is looked whether somebody gave the interface another address.
  private static let checkInterval: Duration = .seconds(1)

  public var nextDeadline: MonotonicTime? { min(reconnectAt ?? nextCheck, nextCheck) }

  public func progress(at now: MonotonicTime) -> Int {
    if let reconnectAt, reconnectAt <= now { connect() }
    if nextCheck <= now {
      nextCheck = now + Self.checkInterval
      look()
    }
    return 1
  }

  /// Looks what others have done to the interface. (NI-20 to NI-23)
  private func look() {
    let (known, knownPlace) = (port.interface, whereabouts)
    whereabouts = port.locate()
    switch whereabouts {
    case .gone: return fail(.interface("the interface \(known) was removed by others"))
    case .elsewhere:
      if knownPlace == .here {
        options.log(
          "\(known) is in another network namespace now: its frames pass, its address and its MTU are left to others"
        )
      }
    case .here:
      if port.interface != known {
        options.log("\(known) is called \(port.interface) now")
        renamed(port.interface)
      }
      claimChangedAddress()
      if channel?.isOpen == true { setMTU { $0 > mtu } }
    }
  }

  /// (NI-23)
  private func claimChangedAddress() {
    guard channel?.isOpen == true, claimed == nil, let granted,
      let address = try? port.interface.address(),
      address != granted
    else { return }
    claimed = address
    send(.addressClaim, AddressClaim(address).encoded)
  }
}
