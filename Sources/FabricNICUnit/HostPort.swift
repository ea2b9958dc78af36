import FabricBounded
import FabricCompletion
import FabricIOUnit
import FabricMessaging
import FabricNIC
import FabricPlatform
import FabricVerbs
import FabricWire

/// A host's connection to a NIC: what it sends, and what goes to it. Confined to the unit's thread.
final class HostPort: ChannelHandler, CustomStringConvertible {
  let hostName: String
  let session: HostNICOpening.Session
  private(set) var address: MACAddress
  /// Further addresses that it sends from.
  var learntCount = 0
  private let peer: String
  /// The number of the one that it came by.
  private let fabric: Int
  unowned let owner: Switch
  var channel: Channel?
  var statistics = NICStatistics()
  var isTouched = false

  // To the host
  /// Being filled; -1: none.
  private var open = -1
  /// Filled, and not taken by the channel yet, in order.
  private let pending = IndexQueue(capacity: Switch.hostSlotLimit)
  /// Slots that are this host's: the open one, those pending and those under way.
  private let own = FixedTable<Bool>(repeating: false, count: Switch.slotCount)
  private var ownCount = 0
  /// It has taken something since the last check.
  private var hasMoved = true
  private var idleCheckCount = 0
  /// It takes nothing: what is for it is dropped.
  private var isStuck = false
  private var waitingControls: [(kind: NICMessageKind, bytes: [UInt8])] = []

  // From the host
  let backlog = Backlog()
  private var groups: FrameBudget

  init(
    hostName: String, session: HostNICOpening.Session, address: MACAddress, peer: String,
    fabric: Int, of owner: Switch
  ) {
    self.hostName = hostName
    self.session = session
    self.address = address
    self.peer = peer
    self.fabric = fabric
    self.owner = owner
    groups = FrameBudget(rate: owner.options.groupFrameRate)
  }

  var description: String { "\(hostName) (\(peer))" }

  func opened(_ channel: Channel) { self.channel = channel }

  func close() { channel?.close() }

  /// Gives back what it has: its connection has gone.
  func release() {
    channel = nil
    for slot in 0..<Switch.slotCount where own[slot] {
      own[slot] = false
      owner.slots.free.give(slot)
    }
    ownCount = 0
    open = -1
    pending.removeAll()
    backlog.removeAll()
  }

  // MARK: To the host

  /// Copies a frame to what goes to the host next.
  ///
  /// - Returns: false when there is no room yet.
  func take(_ frame: Frame) -> Bool {
    guard let channel else {
      statistics.stuckCount &+= 1
      return true
    }
    let needed = frame.recordByteCount
    let limit = min(owner.slots.byteCount, channel.peerBufferByteCount)
    if open >= 0, owner.fills[open].byteCount &+ needed > limit { closeSlot() }
    if open < 0 {
      guard owner.hasSlot(forOneWith: ownCount), let slot = owner.slots.free.take() else {
        guard isStuck else { return false }
        statistics.stuckCount &+= 1
        return true
      }
      ownCount &+= 1
      own[slot] = true
      owner.fills[slot] = FrameRun()
      open = slot
    }
    frame.copy(to: owner.slots.buffer(open), at: owner.fills[open].byteCount)
    owner.fills[open].add(frameByteCount: frame.byteCount)
    owner.touch(self)
    return true
  }

  /// The same for a frame to many: nobody waits for one of them.
  func takeOrDrop(_ frame: Frame) {
    if !take(frame) { statistics.stuckCount &+= 1 }
  }

  /// What is open is sent, or waits behind what does.
  private func closeSlot() {
    guard open >= 0 else { return }
    let slot = open
    open = -1
    if !pending.isEmpty || !post(slot) {
      pending.push(slot)
      owner.watch()
    }
  }

  /// Sends what has been got; what is behind others goes on being filled.
  func flush() {
    if pending.isEmpty { closeSlot() }
    channel?.flush()
  }

  private func post(_ slot: Int) -> Bool {
    guard let channel else { return false }
    let fill = owner.fills[slot]
    let view = owner.slots.buffer(slot).view.slice(0, fill.byteCount)
    let isShort = fill.byteCount <= channel.maximumPayloadByteCount
    let kind = NICMessageKind.frames.rawValue
    let refusal =
      isShort
      ? channel.send(kind: kind, tag: UInt32(fill.frameCount), payload: view)
      : channel.transfer(
        kind: kind, tag: UInt32(fill.frameCount), payload: view.slice(0, 0),
        data: ScatterGatherElement(
          address: owner.slots.address(of: slot), byteCount: UInt32(fill.byteCount),
          localKey: owner.memory.localKey(fabric)),
        token: UInt64(slot))
    guard refusal == nil else {
      statistics.stallCount &+= 1
      return false
    }
    if isShort { give(slot) }
    statistics.sentMessageCount &+= 1
    statistics.transferCount &+= isShort ? 0 : 1
    statistics.sentFrameCount &+= UInt64(fill.frameCount)
    statistics.sentByteCount &+= UInt64(fill.frameByteCount)
    return true
  }

  private func give(_ slot: Int) {
    own[slot] = false
    ownCount &-= 1
    owner.slots.free.give(slot)
    takesAgain()
  }

  private func takesAgain() {
    hasMoved = true
    isStuck = false
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    guard self.channel === channel else { return }
    for index in tokens.indices { give(Int(tokens[index])) }
    owner.resumeWaiting()
  }

  func channelCanSend(_ channel: Channel) {
    guard self.channel === channel else { return }
    sendControls()
    while let slot = pending.first, post(slot) {
      _ = pending.pop()
      takesAgain()
    }
    if pending.isEmpty { closeSlot() }
    owner.resumeWaiting()
  }

  /// Whether something waits for it.
  var isBehind: Bool { !pending.isEmpty }

  /// Called ten times a second while something waits for a receiver. (NI-35)
  func check() {
    let isWaiting = !pending.isEmpty && !hasMoved
    hasMoved = false
    idleCheckCount = isWaiting ? idleCheckCount + 1 : 0
    let idleTime = Switch.checkInterval * idleCheckCount
    guard idleCheckCount > 0, idleTime >= owner.options.patience, !isStuck else { return }
    isStuck = true
    owner.resumeWaiting()
  }

  func tell(_ link: LinkNotice) { send(.link, link.encoded) }

  private func send(_ kind: NICMessageKind, _ bytes: [UInt8]) {
    waitingControls.append((kind, bytes))
    sendControls()
  }

  private func sendControls() {
    while let (kind, bytes) = waitingControls.first, let channel {
      let refusal = channel.send(kind: kind.rawValue, tag: 0, bytes: bytes)
      if refusal == .noCredit || refusal == .noBuffer { return }
      waitingControls.removeFirst()
    }
    channel?.flush()
  }

  // MARK: From the host

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    guard self.channel === channel else { return }
    for index in messages.indices {
      guard received(messages[index], over: channel) else {
        owner.log("\(self): sent a message that the protocol does not know; its connection ends")
        channel.close()
        return
      }
    }
    owner.flush()
  }

  private func received(_ message: IncomingMessage, over channel: Channel) -> Bool {
    guard !message.isPushCompletion else { return false }
    guard message.kind == NICMessageKind.frames.rawValue else { return control(message) }
    guard backlog.isEmpty else {
      if !backlog.append(message, from: 0) { drop(message, over: channel) }
      return true
    }
    let view = message.frames
    guard let end = forward(view, from: 0) else { return false }
    if end < view.byteCount {
      // Its receiver has no room: what comes now waits, and the host gets no more credit.
      channel.holdMessages()
      return backlog.append(message, from: end)
    }
    if let buffer = message.buffer { channel.returnBuffer(buffer.id) }
    return true
  }

  private func drop(_ message: IncomingMessage, over channel: Channel) {
    statistics.stuckCount &+= UInt64(message.tag)
    if let buffer = message.buffer { channel.returnBuffer(buffer.id) }
  }

  /// Passes frames on.
  ///
  /// - Returns: where it stopped, as a receiver has no room; nil: the host broke the protocol.
  private func forward(_ view: WireView, from start: Int) -> Int? {
    var offset = start
    while offset < view.byteCount {
      guard let frame = Frame(in: view, at: offset) else { return nil }
      let isSound = check(frame)
      let unknownCount = statistics.unknownCount
      if isSound, !owner.forward(frame, from: self, counting: &statistics) { return offset }
      offset &+= frame.recordByteCount
      if isSound, statistics.unknownCount == unknownCount {
        statistics.receivedFrameCount &+= 1
        statistics.receivedByteCount &+= UInt64(frame.byteCount)
      }
    }
    return view.byteCount
  }

  /// Whether a frame is passed on; else it is counted. (NI-13, NI-31, NI-32)
  private func check(_ frame: Frame) -> Bool {
    if let fault = frame.fault(mtu: owner.link.mtu) {
      fault.count(in: &statistics)
      return false
    }
    let source = frame.source
    guard source == address || owner.mayUse(source, self) else {
      statistics.spoofedCount &+= 1
      return false
    }
    guard !frame.destination.isGroup || groups.take(frame.segmentCount) else {
      statistics.floodCount &+= 1
      return false
    }
    return true
  }

  /// A receiver has room again.
  func resume() {
    guard !backlog.isEmpty, let channel else { return }
    while let first = backlog.first {
      guard let end = forward(first.view, from: first.start) else {
        channel.close()
        return
      }
      guard end >= first.view.byteCount else {
        backlog.firstStart = end
        return
      }
      if let id = backlog.pop() { channel.returnBuffer(id) }
    }
    channel.resumeMessages()
  }

  private func control(_ message: IncomingMessage) -> Bool {
    guard message.buffer == nil, waitingControls.count < 16 else { return false }
    switch NICMessageKind(rawValue: message.kind) {
    case .addressClaim:
      guard let claim = try? AddressClaim(decoding: message.payload) else { return false }
      let isGranted = owner.claim(claim.address, by: self)
      if isGranted { address = claim.address }
      send(.addressAnswer, AddressAnswer(claim.address, isGranted: isGranted).encoded)
    case .statisticsQuery:
      var counted = statistics
      counted.missedCount = owner.missedCount
      send(.statistics, counted.encoded)
    default: return false
    }
    return true
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    // One that was given up is nobody's any more.
    guard self.channel === channel else { return }
    owner.log(
      "\(self): detached, \(reason); \(statistics.receivedFrameCount) frames came, "
        + "\(statistics.sentFrameCount) went, \(statistics.dropCount) were dropped")
    owner.remove(self)
  }
}
