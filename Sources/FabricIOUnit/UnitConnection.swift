import FabricBounded
import FabricIOProtocol
import FabricMessaging
import FabricStorage
import FabricVerbs
import FabricWire

/// One host's channel to one volume: commands in, data and responses out. Confined to its shard's
/// thread.
final class UnitConnection: ChannelHandler {
  /// Names a command in a store's completions.
  struct Place {
    let rawValue: UInt64
    init(rawValue: UInt64) { self.rawValue = rawValue }
    init(connection: Int, slot: Int) { rawValue = UInt64(connection) << 32 | UInt64(slot) }
    var connection: Int { Int(rawValue >> 32) }
    var slot: Int { Int(rawValue & 0xFFFF_FFFF) }
  }

  enum State {
    /// Accepted; the channel is not up, or older connections of the session are being fenced.
    case opening
    /// Commands may come.
    case ready
    /// Accepts nothing more; what it handed to the port has not all ended.
    case closing
    /// Forgotten.
    case gone
  }

  /// A command between its arrival and its response.
  struct Slot: BitwiseCopyable {
    var command = CommandCapsule(.flush, tag: RequestTag(rawValue: 0))
    var dataAddress: UInt64 = 0
    var transferredByteCount: UInt32 = 0
    /// The read pool's element; negative: none.
    var element: Int32 = -1
    var bufferID: UInt16 = 0
    var hasBuffer = false
    /// The data of a read from fabric memory lies in the volume itself.
    var isDirect = false
    var status = BlockStatus.success
  }

  let number: Int
  let opening: HostOpening
  /// Who the host is, in words.
  let peer: String
  let served: ServedVolume
  let place: UnitPlace
  let session: UnitSession
  let client: UInt32
  let depth: Int
  let maximumTransferByteCount: UInt32
  /// Name memory at the endpoint that the host came to: elements of the read pool, and the volume
  /// itself where it lies in fabric memory.
  let readKey: LocalKey
  let directKey: LocalKey?
  /// Holds this object in turn until it is taken off the shard.
  let shard: UnitShard
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  /// Commands that wait for the port or for an element, in order.
  let deferred: IndexQueue
  /// Commands whose response waits for the channel, in order.
  let replies: IndexQueue
  /// What the host may ask about when this connection has gone.
  let outcomes: OutcomeRing
  /// What the host asks about another connection, until it is answered. (IO-50)
  var fenceRequest: FenceRequest?
  var channel: Channel?
  var state = State.opening
  var isReadySent = false
  /// Elements of the read pool that commands of this connection have, until the fabric has taken
  /// their data.
  var heldElementCount = 0
  /// Answers to control calls that wait for the channel, in order.
  var controlAnswers: [(tag: UInt32, answer: ControlAnswer)] = []
  /// The place's state as the host knows it.
  var toldState: PathState
  /// Whether the shard knows that `deferred` holds something.
  var isWaiting = false
  /// Whether the shard will flush the channel.
  var isTouched = false

  init(
    number: Int, opening: HostOpening, peer: String, served: ServedVolume, session: UnitSession,
    depth: Int, maximumTransferByteCount: UInt32, shard: UnitShard, place: UnitPlace
  ) {
    self.number = number
    self.opening = opening
    self.peer = peer
    self.served = served
    self.session = session
    self.depth = depth
    self.maximumTransferByteCount = maximumTransferByteCount
    self.shard = shard
    self.place = place
    readKey = shard.readPool.localKey(place.endpoint)
    directKey = served.directMemory?.localKey(place.endpoint)
    client = served.port.attach(session.client)
    slots = FixedTable(repeating: Slot(), count: depth)
    freeSlots = IndexPool(capacity: depth)
    deferred = IndexQueue(capacity: depth)
    replies = IndexQueue(capacity: depth)
    outcomes = OutcomeRing(depth: depth)
    toldState = place.state
  }

  /// For the log.
  var name: String { "\(opening.hostName) at \(served.volume.name) (\(peer))" }

  // MARK: Life

  /// The channel is up.
  func opened(_ channel: Channel) {
    guard state == .opening else { return channel.close() }
    self.channel = channel
    if place.isCut { return fence() }
    sendReadyIfSettled()
  }

  /// Lets commands come once everything of the session's older connections has ended. (IO-14)
  func sendReadyIfSettled() {
    guard state == .opening, !isReadySent, let channel, session.isSettled(before: self) else {
      return
    }
    let refusal = channel.send(kind: MessageKind.ready.rawValue, tag: 0, bytes: [])
    // A refusal for want of credit is followed by `channelCanSend`.
    guard refusal == nil else { return }
    isReadySent = true
    state = .ready
    channel.flush()
    tellStateIfChanged()
  }

  /// Tells the host that the path's state is another now. (IO-61)
  func tellStateIfChanged() {
    guard state == .ready, toldState != place.state, let channel else { return }
    let notice = PathStateNotice(place.state)
    let refusal = channel.send(
      kind: MessageKind.pathState.rawValue, tag: 0, bytes: notice.encoded())
    // A refusal for want of credit is followed by `channelCanSend`.
    guard refusal == nil else { return }
    toldState = place.state
    channel.flush()
  }

  /// Accepts nothing more and lets what the port has end.
  func beginClosing() {
    guard state == .opening || state == .ready else { return }
    state = .closing
    deferred.removeAll()
    replies.removeAll()
    shard.beginQuiesce(self)
  }

  /// A newer connection of the session takes over. (IO-14)
  func fence() {
    beginClosing()
    channel?.close()
  }

  /// The host broke the protocol: ends the channel. (IO-4)
  func violation(_ words: String) {
    guard state == .opening || state == .ready else { return }
    shard.log("\(name): \(words); the connection is closed")
    fence()
  }

  /// All that the port had has ended: gives everything back.
  func finish() {
    state = .gone
    served.port.detach(client)
    for index in 0..<slots.count where slots[index].element >= 0 {
      giveElement(Int(slots[index].element))
      slots[index].element = -1
    }
    channel = nil
  }

  // MARK: Channel

  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    for index in messages.indices {
      guard state == .ready else {
        if state == .opening { violation("a message came before the session was ready") }
        return
      }
      let message = messages[index]
      if message.kind == MessageKind.command.rawValue, !message.isPushCompletion {
        receive(message, over: channel)
      } else if message.kind == MessageKind.fence.rawValue, message.buffer == nil {
        receiveFence(message)
      } else if message.kind == MessageKind.control.rawValue, message.buffer == nil {
        receiveControl(message)
      } else {
        return violation("expected a command, got a message of kind \(message.kind)")
      }
    }
  }

  func channel(_ channel: Channel, finished tokens: Span<UInt64>) {
    for index in tokens.indices { pushed(Int(tokens[index])) }
    shard.retryDeferred()
  }

  func channelCanSend(_ channel: Channel) {
    sendReadyIfSettled()
    answerFenceIfSettled()
    tellStateIfChanged()
    sendControlAnswers()
    while state == .ready, let slot = replies.first {
      guard sendReply(slot) else { return }
      _ = replies.pop()
    }
  }

  func channel(_ channel: Channel, closed reason: ChannelCloseReason) {
    if state == .opening || state == .ready { shard.log("\(name): detached, \(reason)") }
    beginClosing()
  }
}
