import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire

/// One queue of a controller, once it is connected, whatever it comes over: what its commands ask for,
/// their buffers, their way through a volume's port, their ends. How commands, data and completions
/// travel is the subclass's: `TCPQueue`, `RDMAQueue`.
///
/// Threads: the front end's.
class CommandQueue: ControllerLink, PortUser, FrontEndWaiter {
  enum Phase {
    /// The transport has not agreed with the host yet.
    case initializing
    /// Nothing but Connect may come.
    case connecting
    case connected
    /// Nothing is looked at any more.
    case ended
  }

  /// The most bytes that the host sends with a command that the controller carries out by itself.
  static let adminByteCount = 8192

  final let target: NVMeTarget
  final unowned let frontEnd: FrontEnd
  /// The most bytes that a command transfers.
  final let transferByteLimit: UInt32
  final var phase: Phase

  // The queue.
  final private(set) var controller: Controller?
  final private(set) var queueNumber: UInt16 = 0
  final private var tellsHead = true
  final private var head: UInt16 = 0
  final private(set) var depth = 1
  final private(set) var slots: FixedTable<CommandSlot>
  final private(set) var freeSlots: IndexPool
  /// Commands that wait for a buffer, oldest first.
  final private(set) var waiting: IndexQueue
  /// Commands that have what they need and wait for room in a port. They go first: others may wait for
  /// their buffers.
  final private(set) var delayed: IndexQueue
  /// Whether the front end knows that somebody waits here.
  final private var isWaiting = false
  /// Requests for events that wait, with the host's names for them, oldest first.
  final var heldSlots: [(identifier: UInt16, slot: Int)] = []
  /// The host's address, as connections are counted by it.
  final let origin: [UInt8]
  /// Of the host's address, with its other connections.
  final let holding: DataBuffers.Holding
  /// Commands whose data is being fetched.
  final var fetchCount = 0
  /// By the namespace's number less one: the ways to the volumes that this queue has used, and the same
  /// without counting references.
  final private var ways: [VolumeWay?] = []
  final private var wayReferences: [UncountedReference<VolumeWay>?] = []
  final var counters = IOCounters()
  /// Ends once all commands are answered.
  final private(set) var isClosing = false
  /// Ways that have not let go yet.
  final private var pendingWayCount = 0

  /// - Parameters:
  ///   - origin: the host's address, as connections are counted by it.
  ///   - slotCount: commands that may be under way.
  init(
    _ target: NVMeTarget, frontEnd: FrontEnd, origin: [UInt8], phase: Phase, slotCount: Int
  ) {
    self.origin = origin
    holding = frontEnd.share(of: origin)
    self.target = target
    self.frontEnd = frontEnd
    transferByteLimit = UInt32(target.subsystem.options.maximumTransferByteCount)
    self.phase = phase
    slots = FixedTable(repeating: CommandSlot(), count: slotCount)
    freeSlots = IndexPool(capacity: slotCount)
    waiting = IndexQueue(capacity: slotCount)
    delayed = IndexQueue(capacity: slotCount)
  }

  final var isAdmin: Bool { queueNumber == 0 }

  // MARK: What the transport does

  /// Who is at the other end, for the log.
  var peerName: String { fatalError("a transport says") }
  var transport: QueueTransport { fatalError("a transport says") }
  /// The address of this machine that the host came to, where that is known.
  var reachedAt: DiscoveryEntry.Host? { nil }

  /// Whether a command's data is where its descriptor says, and may lie there.
  ///
  /// - Parameter dataByteCount: of the data that came with it.
  func judgeDescriptor(_ number: Int, dataByteCount: Int) -> Status {
    fatalError("a transport says")
  }

  /// Of data that comes with its command. (NVMe over Fabrics 1.1, section 2.3)
  final func judgeCapsuleData(_ number: Int, dataByteCount: Int) -> Status {
    let data = slots[number].command.data
    let io = slots[number].io
    guard io.direction == .fromHost, io.byteCount > 0 else {
      guard dataByteCount == 0 else { return .dataLengthInvalid }
      return io.direction == .toHost && io.byteCount > 0 ? .descriptorTypeInvalid : .success
    }
    guard data.low == 0 else { return .offsetInvalid }
    return Int(data.byteCount) == dataByteCount ? .success : .dataLengthInvalid
  }

  /// Has all of a command's data come into its buffer: `dataHasCome` follows.
  func fetchData(_ number: Int) { fatalError("a transport does") }

  /// Sends a command's data, and that it has succeeded; then the slot is given back (`forget`).
  ///
  /// - Parameter isInPlace: the bytes are a volume's, not the slot's buffer.
  func respond(_ number: Int, withDataAt address: UInt64, isInPlace: Bool) {
    fatalError("a transport does")
  }

  /// As that, of bytes that are copied. The slot has a buffer where `answersFromBuffers`.
  func respond(_ number: Int, with bytes: [UInt8]) { fatalError("a transport does") }

  /// Sends how a command ended; then the slot is given back (`forget`).
  func respond(_ number: Int, _ status: Status, result: UInt64) {
    fatalError("a transport does")
  }

  /// Whether data can go out from where a volume has it.
  var sendsInPlace: Bool { false }
  /// Whether what the controller answers needs the slot's buffer.
  var answersFromBuffers: Bool { false }

  /// A buffer for a command's data; nil: there is none now.
  ///
  /// - Parameter isOfCapsule: the data comes with the command, so that it cannot wait.
  func buffer(byteCount: Int, isOfCapsule: Bool) -> CommandBuffer? {
    frontEnd.buffers.take(byteCount, for: holding).map(CommandBuffer.init)
  }

  /// Forgets a command that is never answered.
  func drop(_ number: Int) { forget(number) }

  /// What is wrong with a Connect, as far as the transport knows; nil: nothing.
  func refusal(of request: ConnectCommand) -> NVMSubsystem.Refusal? { nil }

  /// Takes a command's buffer back.
  func give(_ buffer: CommandBuffer) {
    if let lent = buffer.lent { frontEnd.buffers.give(lent, of: holding) }
  }

  /// Looks at input again that had to wait; returns whether it still must.
  func retryInput() -> Bool { false }

  /// The connection has become a queue of `depth` entries; the command in `slot`, which asked for that,
  /// is still to be answered. Returns where it is now.
  func hasConnected(_ slot: Int, depth: Int) -> Int { slot }

  /// Ends the connection in order, behind what was sent.
  func closeInOrder() { fatalError("a transport does") }

  /// Ends the connection now; `connectionHasEnded` follows.
  func reset() { fatalError("a transport does") }

  /// Has what was sent outside of the connection's and the ports' calls go out.
  func flush() {}

  /// Nothing that the queue had asked for is under way any more, and it has no buffer.
  func hasLetGo() {}

  // MARK: Buffers

  /// Takes a buffer for a command's data. False when there is none now.
  final func takeBuffer(_ number: Int, isOfCapsule: Bool = false) -> Bool {
    let count = max(1, Int(slots[number].io.byteCount))
    if let buffer = slots[number].buffer {
      if buffer.byteCount >= count { return true }
      giveBuffer(number)
    }
    slots[number].buffer = buffer(byteCount: count, isOfCapsule: isOfCapsule)
    return slots[number].buffer != nil
  }

  final func giveBuffer(_ number: Int) {
    guard let buffer = slots[number].buffer else { return }
    slots[number].buffer = nil
    give(buffer)
  }

  /// Makes room for as many commands as the queue is deep, and keeps one.
  final func makeSlots(_ depth: Int, keeping number: Int) -> Int {
    let kept = slots[number]
    slots = FixedTable(repeating: CommandSlot(), count: depth)
    freeSlots = IndexPool(capacity: depth)
    waiting = IndexQueue(capacity: depth)
    delayed = IndexQueue(capacity: depth)
    guard let number = freeSlots.take() else { preconditionFailure("a queue has entries") }
    slots[number] = kept
    return number
  }

  // MARK: Waiting

  final func wait(_ number: Int) {
    if slots[number].buffer == nil { waiting.push(number) } else { delayed.push(number) }
    beginWaiting()
  }

  final func beginWaiting() {
    guard !isWaiting else { return }
    isWaiting = true
    frontEnd.wait(self)
  }

  final func retry() -> Bool {
    // What frees buffers may come behind a capsule: input does not wait for the commands before it.
    let inputWaits = retryInput()
    for queue in [delayed, waiting] {
      while phase != .ended, let number = queue.first {
        guard goOn(number) else {
          move(number, from: queue)
          return false
        }
        _ = queue.pop()
      }
    }
    isWaiting = inputWaits || !delayed.isEmpty || !waiting.isEmpty
    return !isWaiting
  }

  /// One that has found a buffer, and no room in the port, holds up none that needs a buffer.
  private final func move(_ number: Int, from queue: IndexQueue) {
    guard queue === waiting, slots[number].buffer != nil else { return }
    _ = waiting.pop()
    delayed.push(number)
  }

  // MARK: Ways

  /// The way to a namespace; made when it is first used. Nil: there is none for this host.
  @inline(__always)
  final func way(to number: UInt32) -> UncountedReference<VolumeWay>? {
    let index = Int(number) &- 1
    if index >= 0, index < wayReferences.count, let way = wayReferences[index] { return way }
    return newWay(to: number)
  }

  private final func newWay(to number: UInt32) -> UncountedReference<VolumeWay>? {
    guard let controller, let namespace = controller.namespace(number),
      let access = controller.access(to: namespace.volume),
      let port = try? frontEnd.port(on: namespace.volume, access: access)
    else { return nil }
    let client = port.attach(self, account: controller.account(of: namespace))
    let way = VolumeWay(port: port, client: client, blockShift: namespace.blockShift)
    let reference = UncountedReference(way)
    while ways.count < Int(number) {
      ways.append(nil)
      wayReferences.append(nil)
    }
    ways[Int(number) - 1] = way
    wayReferences[Int(number) - 1] = reference
    return reference
  }

  // MARK: Life

  /// For the log.
  final var name: String {
    controller.map { "\($0.host.name), queue \(queueNumber) of controller \($0.number)" }
      ?? peerName
  }

  /// The connection is a queue from now on.
  final func become(_ queue: NVMSubsystem.ConnectedQueue) {
    controller = queue.controller
    queueNumber = queue.number
    tellsHead = queue.tellsHead
    depth = queue.depth
    phase = .connected
    countHead()
  }

  /// Counts a command that was taken.
  final func countHead() { head = Int(head) + 1 >= depth ? 0 : head + 1 }

  /// What a completion says of the queue's head. (NVMe over Fabrics 1.1, section 2.2)
  final var toldHead: UInt16 { tellsHead ? head : 0xFFFF }
  /// Whether the host has agreed not to be told of the queue's head.
  final var isSilentOnHead: Bool { !tellsHead }

  /// Ends the connection in order once every command that is under way is answered; no other is carried
  /// out.
  func close() {
    isClosing = true
    closeIfIdle()
  }

  /// A slot came free.
  @inline(__always)
  final func closeIfIdle() {
    if isClosing, phase != .ended, freeSlots.count == freeSlots.capacity - heldSlots.count {
      closeInOrder()
    }
  }

  final func end() {
    guard phase != .ended else { return }
    phase = .ended
    reset()
  }

  /// The connection is gone: the controller is told, and the buffers come back once the ports let go.
  final func connectionHasEnded() {
    phase = .ended
    frontEnd.stopWaiting(self)
    let controller = self.controller
    self.controller = nil
    controller?.disconnected(queueNumber, self)
    let open = ways.compactMap { $0 }
    pendingWayCount = open.count
    for way in open { way.port.quiesce(way.client) }
    if open.isEmpty { giveAllBack() }
  }

  final func portDidQuiesce(_ port: ServedPort) {
    pendingWayCount -= 1
    if pendingWayCount == 0 { giveAllBack() }
  }

  /// Nobody uses the buffers any more.
  private final func giveAllBack() {
    for index in 0..<slots.count { giveBuffer(index) }
    wayReferences = []
    ways = []
    hasLetGo()
    frontEnd.somethingCameFree()
    flush()
  }
}
