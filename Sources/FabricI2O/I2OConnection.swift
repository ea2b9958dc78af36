import FabricBounded
import FabricFrontEnds
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire

/// One host's channel: messages in, data and replies out. Confined to the service's thread.
final class I2OConnection: ChannelHandler, PortUser, FrontEndWaiter, @unchecked Sendable {
  enum Phase: UInt8, BitwiseCopyable {
    case free
    /// For a buffer, or for room in the port.
    case waiting
    /// With the volume's port.
    case atStore
    /// For the table of devices to change. (IT-23)
    case waitingForChange
    /// An abort, for the replies of what it has aborted. (IT-61)
    case waitingForAborted
    /// Data or reply are on their way to the channel: nothing changes how it ends any more.
    case replying
    /// A read that was aborted at the medium, and is answered by another slot. (IT-62)
    case abandoned
  }

  /// How a message ends.
  enum Ending: BitwiseCopyable {
    case reply(ReplyFrame)
    /// Its data alone, and the function as what ends.
    case push
  }

  /// A message between its arrival and its reply.
  struct Slot: BitwiseCopyable {
    var header = FrameHeader(.nop, target: 0, wordCount: 3)
    var ending = Ending.push
    var operation = BlockOperation.flush
    var flags: BlockFlags = []
    var phase = Phase.free
    /// Of a read: nothing is to be pushed. (IT-62)
    var isAborted = false
    var hasReceived = false
    var received: UInt16 = 0
    /// In `devices`.
    var device: Int32 = -1
    /// The slot of the abort that waits for this one's reply; negative: none does.
    var abortedBy: Int32 = -1
    /// Of an abort: replies that it waits for, and messages that it has aborted.
    var waitingCount: UInt32 = 0
    var abortedCount: UInt32 = 0
    var block: UInt64 = 0
    var logicalByteAddress: UInt64 = 0
    var blockCount: UInt32 = 0
    var byteCount: UInt32 = 0
    /// Of a write whose data lies in what came with it: where.
    var attachedAddress: UInt64 = 0
    /// Pieces of the scatter list, those that are pushed already, and one behind the last that is to be.
    var elementCount: Int32 = 0
    var nextElement: Int32 = 0
    var endElement: Int32 = 0
    var pushedByteCount: UInt64 = 0
    /// A message about the table of devices.
    var classIdentifier: UInt32 = 0
    var knownIndicator: UInt32 = 0
    var buffer: HeldBuffer?
  }

  /// A buffer, and whose it is.
  struct HeldBuffer: BitwiseCopyable {
    var buffer: DataBuffers.Buffer
    /// Of those for what the processor answers, which blocks do not take.
    var isAnswer = false
    var address: UInt64 { buffer.address }
  }

  /// A device that this host has named.
  struct Device: BitwiseCopyable {
    var number: UInt16
    var blockByteCount: UInt32
    var port: UncountedReference<ServedPort>
    var client: PortClient
  }

  enum State {
    case open
    /// Accepts nothing more; ports and the fabric have something of it.
    case closing
    case gone
  }

  unowned let server: I2OServer
  let frontEnd: FrontEnd
  let hostName: String
  let peer: String
  var channel: Channel?
  var state = State.open
  var translator = FrameTranslator()
  var initCode: UInt8 = 0
  /// Messages that the host may have under way: as many requests as it may have, and an abort. (IT-5)
  let depth: Int
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  /// Slots of reads that were aborted and have not ended at the medium.
  var abandonedCount = 0
  static let abandonedLimit = 16
  /// Of slot n from n times `I2O.maximumElementCount` on.
  let elements: FixedTable<ScatterElement>
  /// Slots that wait for a buffer or for room in a port, in order.
  let deferred: IndexQueue
  /// Slots whose data or reply wait for the channel, in order.
  let replies: IndexQueue
  /// Buffers that the fabric has: by token. There are no more tokens under way than sends.
  let pushes: FixedTable<HeldBuffer?>
  let freePushes: IndexPool
  /// The frame that is looked at: a peer may go on writing to where it came.
  let scratch: FixedTable<UInt64>
  /// This host's part of the buffers, over all of its channels.
  let holding: DataBuffers.Holding
  /// This channel's part of the buffers for answers.
  let answerHolding = DataBuffers.Holding()
  /// For the server, from the first message on.
  var number: UInt32 = 0
  /// Grows as the host takes data and replies.
  var progress: UInt64 = 0
  /// Devices with a port: looked up for each message.
  var devices = FixedTable<Device?>(repeating: nil, count: 0)
  var deviceCount = 0
  /// Keeps the ports.
  var ports: [ServedPort] = []
  var quiescingCount = 0
  /// Nothing of the channel's is under way any more.
  var channelIsGone = false
  var isWaiting = false
  var isTouched = false

  init(server: I2OServer, hostName: String, peer: ChannelPeer) {
    self.server = server
    frontEnd = server.frontEnd
    self.hostName = hostName
    self.peer = peer.place
    holding = frontEnd.share(of: Array((peer.keyName ?? Self.origin(peer.place)).utf8))
    depth = server.options.depth + 1
    let count = depth + Self.abandonedLimit
    slots = FixedTable(repeating: Slot(), count: count)
    freeSlots = IndexPool(capacity: count)
    elements = FixedTable(
      repeating: ScatterElement(.nowhere, byteCount: 0), count: count * I2O.maximumElementCount)
    deferred = IndexQueue(capacity: count)
    replies = IndexQueue(capacity: count)
    pushes = FixedTable(repeating: nil, count: I2OServer.sendCount)
    freePushes = IndexPool(capacity: I2OServer.sendCount)
    scratch = FixedTable(repeating: 0, count: I2O.maximumFrameByteCount / 8)
  }

  /// Where a host is, whichever of its ports it comes from.
  static func origin(_ place: String) -> String {
    place.lastIndex(of: ":").map { String(place[..<$0]) } ?? place
  }

  /// Whether buffers wait for the host to take what is in them.
  var keepsBuffers: Bool {
    state == .open && (!replies.isEmpty || freePushes.count < freePushes.capacity)
  }

  /// For the log.
  var name: String { "i2o \(hostName) (\(peer))" }
  private func name(at volume: Volume) -> String { "i2o \(hostName) at \(volume.name) (\(peer))" }

  // MARK: Channel

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    if self.channel == nil, state == .open {
      self.channel = channel
      server.add(self)
    }
    for index in messages.indices {
      guard state == .open else { return }
      let message = messages[index]
      guard message.kind == I2O.messageKind, message.tag == 0, !message.isPushCompletion else {
        return violation("a message of kind \(message.kind) and tag \(message.tag) is no frame")
      }
      receive(message, over: channel)
    }
    server.flush()
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    for index in tokens.indices {
      let place = Int(tokens[index])
      guard let buffer = pushes[place] else { continue }
      pushes[place] = nil
      freePushes.give(place)
      progress &+= 1
      give(buffer)
    }
    frontEnd.somethingCameFree()
  }

  func channelCanSend(_ channel: Channel) {
    while state == .open, let slot = replies.first {
      guard send(slot) else { return }
      _ = replies.pop()
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    if state == .open {
      for port in ports { frontEnd.log("\(name(at: port.volume)): detached, \(reason)") }
    }
    close()
    // Behind the job in which the channel's requests end.
    server.runLater { [self] in
      channelIsGone = true
      finishIfIdle()
    }
  }

  /// The host broke the protocol: ends the channel. (IT-3)
  func violation(_ words: String) {
    guard state == .open else { return }
    frontEnd.log("\(name): \(words); the channel is closed")
    close()
  }

  // MARK: End

  /// Accepts nothing more and lets what ports have end.
  func close() {
    guard state == .open else { return }
    state = .closing
    deferred.removeAll()
    replies.removeAll()
    if isWaiting { frontEnd.stopWaiting(self) }
    isWaiting = false
    for index in 0..<deviceCount {
      guard let device = devices[index] else { continue }
      quiescingCount += 1
      device.port.with { $0.quiesce(device.client) }
    }
    channel?.close()
  }

  func portDidQuiesce(_ port: ServedPort) {
    quiescingCount -= 1
    finishIfIdle()
  }

  private func finishIfIdle() {
    guard state == .closing, channelIsGone, quiescingCount == 0 else { return }
    state = .gone
    for index in 0..<slots.count { giveBuffer(index) }
    for index in 0..<pushes.count {
      guard let buffer = pushes[index] else { continue }
      give(buffer)
      pushes[index] = nil
    }
    abandon()
    server.remove(self)
    frontEnd.somethingCameFree()
  }

  /// Lets everything go: nothing is called any more.
  func abandon() {
    state = .gone
    channel = nil
    ports = []
  }

  /// Messages that have no reply yet.
  var underWayCount: Int { slots.count &- freeSlots.count &- abandonedCount }

  func giveBuffer(_ slot: Int) {
    guard let buffer = slots[slot].buffer else { return }
    slots[slot].buffer = nil
    give(buffer)
  }

  private func give(_ held: HeldBuffer) {
    if held.isAnswer {
      server.answers.give(held.buffer, of: answerHolding)
    } else {
      frontEnd.buffers.give(held.buffer, of: holding)
    }
  }

  // MARK: Devices

  /// The place of a device in `devices`; nil: there is none that this host may use.
  func place(of number: UInt16) -> Int? {
    for index in 0..<deviceCount where devices[index]?.number == number { return index }
    return nil
  }

  /// What this host may do with a device; nil: it is not there.
  func visible(_ number: UInt16) -> (volume: Volume, access: VolumeAccess)? {
    guard let volume = server.numbers.volume(number) else { return nil }
    return frontEnd.volumes(for: hostName).first { $0.volume === volume }
  }

  /// The shape of a device that this host may name. (IT-16)
  func shape(of number: UInt16) -> DeviceShape? {
    if let index = place(of: number), let device = devices[index] {
      return DeviceShape(blockByteCount: device.blockByteCount)
    }
    return visible(number).map { DeviceShape(blockByteCount: $0.volume.blockByteCount) }
  }

  /// Opens a way to a device, once; nil when the volume cannot be used now.
  func attach(_ number: UInt16) -> Int? {
    if let index = place(of: number) { return index }
    guard let (volume, access) = visible(number),
      let port = try? frontEnd.port(on: volume, access: access)
    else { return nil }
    // An account of this channel alone: its flushes tell of its own losses.
    let client = port.attach(self, account: VolumeClient(of: volume))
    if deviceCount == devices.count {
      let longer = FixedTable<Device?>(repeating: nil, count: max(4, 2 * deviceCount))
      for index in 0..<deviceCount { longer[index] = devices[index] }
      devices = longer
    }
    ports.append(port)
    devices[deviceCount] = Device(
      number: number, blockByteCount: volume.blockByteCount, port: UncountedReference(port),
      client: client)
    deviceCount += 1
    frontEnd.log("\(name(at: volume)): attached")
    return deviceCount - 1
  }
}
