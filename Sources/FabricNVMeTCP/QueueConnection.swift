import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire

/// One connection: a queue of a controller, once it is initialized and connected.
///
/// Threads: the front end's.
final class QueueConnection: StreamHandler, ControllerLink, PortUser, FrontEndWaiter {
  enum Phase {
    /// Nothing but ICReq may come.
    case initializing
    /// Nothing but Connect may come.
    case connecting
    case connected
    /// Nothing is looked at any more.
    case ended
  }

  /// Bytes that an admin or a Connect capsule carries itself. (NVMe/TCP 1.0, section 3.3.1)
  static let adminCapsuleByteCount = 8192
  /// Of one H2CData PDU.
  static let hostDataByteCount = 1 << 20

  let target: NVMeTarget
  unowned let frontEnd: FrontEnd
  let stream: ServedStream
  private(set) var phase = Phase.initializing

  // What was agreed on.
  private(set) var usesHeaderDigest = false
  private(set) var usesDataDigest = false
  /// What the host wants data to begin at a multiple of.
  private(set) var hostAlignment = 4

  // The queue.
  var controller: Controller?
  private(set) var queueNumber: UInt16 = 0
  private var tellsHead = true
  private var head: UInt16 = 0
  private(set) var depth = 1
  private(set) var slots = FixedTable(repeating: Slot(), count: 1)
  private(set) var freeSlots = IndexPool(capacity: 1)
  /// Commands that wait for a buffer, oldest first.
  private(set) var waiting = IndexQueue(capacity: 1)
  /// Commands that have what they need and wait for room in a port. They go first: others may wait for
  /// their buffers.
  private(set) var delayed = IndexQueue(capacity: 1)
  /// Whether the front end knows that somebody waits here.
  var isWaiting = false
  /// Whether a capsule waits for a buffer, and with it all input.
  var inputRests = false
  /// Memory for the data of one capsule, for when there is no buffer: what frees buffers may come behind
  /// the capsule, so that it cannot wait for them.
  private lazy var ownMemory = CapsuleMemory(
    byteCount: max(Self.adminCapsuleByteCount, target.subsystem.options.inCapsuleByteCount))
  private var ownMemoryIsTaken = false
  /// Requests for events that wait, with the host's names for them, oldest first.
  var heldSlots: [(identifier: UInt16, slot: Int)] = []
  var holding = DataBuffers.Holding()
  /// By the namespace's number less one: the ways to the volumes that this connection has used, and the
  /// same without counting references.
  private(set) var ways: [VolumeWay?] = []
  private var wayReferences: [UncountedReference<VolumeWay>?] = []
  var counters = IOCounters()
  /// Ways that have not let go yet.
  private var pendingWayCount = 0

  // Input that goes on.
  /// The command whose data is being received; negative: none.
  var receiving = -1
  /// Of the data that was placed the digest is still to come.
  var expectsDigest = false
  /// First of the bytes that are being placed, or have been and are to be checked, and how many.
  var placedAddress: UInt64 = 0
  var placedByteCount = 0
  /// Whether the data being placed are the last of their command.
  var isLastPart = false
  /// Bytes of a capsule whose command has been refused already.
  var skippedByteCount = 0

  init(_ target: NVMeTarget, frontEnd: FrontEnd, stream: ServedStream) {
    self.target = target
    self.frontEnd = frontEnd
    self.stream = stream
  }

  /// A command between its arrival and its end.
  struct Slot: BitwiseCopyable {
    var command: Command
    var io = IOCommand()
    var buffer: CommandBuffer?
    /// Data from the host that is in the buffer.
    var receivedByteCount: UInt32 = 0
    /// Of a command in pieces, how many are done: ranges, or blocks.
    var doneCount: UInt32 = 0
    /// What is known to be wrong before the data has come.
    var status = Status.success
    /// A request to transfer is out.
    var isReceiving = false

    init(command: Command = Command(opcode: 0)) { self.command = command }
  }

  var isAdmin: Bool { queueNumber == 0 }
  var headerDigestByteCount: Int { usesHeaderDigest ? PDU.digestByteCount : 0 }
  var dataDigestByteCount: Int { usesDataDigest ? PDU.digestByteCount : 0 }
  /// Bytes of data that a capsule may carry.
  var capsuleByteCount: Int {
    isAdmin ? Self.adminCapsuleByteCount : target.subsystem.options.inCapsuleByteCount
  }

  // MARK: Buffers

  /// A buffer for a command's data; nil: there is none now.
  ///
  /// - Parameter isOfCapsule: the data comes with the command, so that this connection's own may serve.
  func buffer(byteCount: Int, isOfCapsule: Bool) -> CommandBuffer? {
    if let lent = frontEnd.buffers.take(byteCount, for: &holding) {
      return CommandBuffer(address: lent.address, lent: lent)
    }
    guard isOfCapsule, !ownMemoryIsTaken else { return nil }
    ownMemoryIsTaken = true
    return CommandBuffer(address: ownMemory.address, lent: nil)
  }

  func give(_ buffer: CommandBuffer) {
    if let lent = buffer.lent {
      frontEnd.buffers.give(lent, of: &holding)
    } else {
      ownMemoryIsTaken = false
    }
  }

  /// Whether a capsule's data would find a buffer.
  var hasCapsuleBuffer: Bool { !ownMemoryIsTaken }

  // MARK: Ways

  /// The way to a namespace, if there is one already.
  @inline(__always)
  func knownWay(to number: UInt32) -> UncountedReference<VolumeWay>? {
    let index = Int(number) &- 1
    return index >= 0 && index < wayReferences.count ? wayReferences[index] : nil
  }

  func add(_ way: VolumeWay, to number: UInt32) -> UncountedReference<VolumeWay> {
    while ways.count < Int(number) {
      ways.append(nil)
      wayReferences.append(nil)
    }
    let reference = UncountedReference(way)
    ways[Int(number) - 1] = way
    wayReferences[Int(number) - 1] = reference
    return reference
  }

  // MARK: Life

  /// For the log.
  var name: String {
    controller.map { "\($0.host.name), queue \(queueNumber) of controller \($0.number)" }
      ?? "\(stream.peer)"
  }

  func agree(headerDigest: Bool, dataDigest: Bool, hostAlignment: Int) {
    usesHeaderDigest = headerDigest
    usesDataDigest = dataDigest
    self.hostAlignment = hostAlignment
    phase = .connecting
  }

  /// The connection is a queue from now on.
  func become(_ queue: NVMSubsystem.ConnectedQueue) {
    controller = queue.controller
    queueNumber = queue.number
    tellsHead = queue.tellsHead
    depth = queue.depth
    // The host may have one command less under way than its queue has entries, but need not know that.
    slots = FixedTable(repeating: Slot(), count: depth)
    freeSlots = IndexPool(capacity: depth)
    waiting = IndexQueue(capacity: depth)
    delayed = IndexQueue(capacity: depth)
    phase = .connected
    stream.isKnown = true
  }

  /// Counts a command that was taken.
  func countHead() { head = Int(head) + 1 >= depth ? 0 : head + 1 }

  /// What a completion says of the queue's head. (NVMe over Fabrics 1.1, section 2.2)
  var toldHead: UInt16 { tellsHead ? head : 0xFFFF }
  /// Whether a read's data may be its end as well. (NVMe/TCP 1.0, section 3.6.2.6)
  var endsWithData: Bool { !tellsHead && !isAdmin }

  func end() {
    guard phase != .ended else { return }
    phase = .ended
    stream.reset()
  }

  /// Says what was wrong, and ends the connection behind that. (NVMe/TCP 1.0, section 3.5)
  func fail(_ error: FatalError, about bytes: WireView) {
    frontEnd.log("\(name): \(error.words); the connection is closed")
    let known = min(bytes.byteCount, phase == .initializing ? PDU.commonByteCount : 128)
    let words = error.encoded(
      .controllerTerminate, about: bytes.slice(0, known).array)
    phase = .ended
    stream.header(byteCount: words.count).copy(words, at: 0)
    stream.close()
  }

  func stream(_ stream: ServedStream, closed reason: StreamEnd) {
    if phase == .initializing || phase == .connecting {
      if reason == .handshakeTimeout { frontEnd.log("\(name): \(reason)") }
    }
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

  func portDidQuiesce(_ port: ServedPort) {
    pendingWayCount -= 1
    if pendingWayCount == 0 { giveAllBack() }
  }

  /// Nobody uses the buffers any more.
  private func giveAllBack() {
    for index in 0..<slots.count {
      guard let buffer = slots[index].buffer else { continue }
      slots[index].buffer = nil
      give(buffer)
    }
    wayReferences = []
    ways = []
    frontEnd.somethingCameFree()
  }
}

/// Memory for a command's data.
struct CommandBuffer: BitwiseCopyable {
  let address: UInt64
  /// Nil: the connection's own.
  let lent: DataBuffers.Buffer?
}

/// Memory that goes with its object.
@safe
final class CapsuleMemory {
  private let memory: UnsafeMutableRawPointer

  init(byteCount: Int) { unsafe memory = .allocate(byteCount: byteCount, alignment: 4096) }
  deinit { unsafe memory.deallocate() }

  var address: UInt64 { unsafe UInt64(UInt(bitPattern: memory)) }
}

/// A connection's way to a volume.
final class VolumeWay {
  let port: ServedPort
  let client: PortClient
  let blockShift: UInt8

  init(port: ServedPort, client: PortClient, blockShift: UInt8) {
    self.port = port
    self.client = client
    self.blockShift = blockShift
  }
}
