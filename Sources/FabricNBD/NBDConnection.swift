import FabricBounded
import FabricFrontEnds
import FabricNBDProtocol
import FabricStorage
import FabricWire

/// One client's connection: first its handshake, then its requests. Confined to the service's
/// thread. Requests are carried out side by side and answered as they end. (NB-34)
final class NBDConnection: StreamHandler, PortUser, FrontEndWaiter {
  enum Phase {
    case handshake
    case transmission
    /// The client has said that it goes: what it had asked for is still carried out. (NB-26)
    case disconnecting
    /// The stream is gone.
    case gone
  }

  /// A request between its arrival and its reply.
  struct Slot: BitwiseCopyable {
    var cookie: UInt64 = 0
    var offset: UInt64 = 0
    var length: UInt32 = 0
    var command = NBD.Command.read
    var flags: NBD.CommandFlags = []
    /// Of a request without data, which goes in pieces: bytes whose piece has ended.
    var doneByteCount: UInt32 = 0
    /// Bytes of the piece at the port.
    var pieceByteCount: UInt32 = 0
    /// Whether what the port has is the flush behind a trim.
    var isFlushing = false
    var buffer: DataBuffers.Buffer?
    var isTaken = false
  }

  let stream: ServedStream
  unowned let frontEnd: FrontEnd
  let table: NBDConnections
  var phase = Phase.handshake
  private var handshake: NBDHandshake
  private let volumes: [(volume: Volume, access: VolumeAccess)]

  // Of the transmission phase
  var rules = NBDRules()
  var port: ServedPort?
  var client: PortClient?
  var blockShift: UInt64 = 9
  let slots: FixedTable<Slot>
  let freeSlots: IndexPool
  /// Requests that the port had no room for, in order.
  let deferred: IndexQueue
  /// Of the client's host.
  let holding: DataBuffers.Holding
  /// Whose payload is being received.
  var placedSlot = 0
  /// Bytes of a refused write's payload that are still to come.
  var skippedByteCount = 0
  /// Whether the front end will call `retry`.
  var isWaiting = false
  /// Whether a request came for which there is no buffer and never will be.
  var lacksMemory = false
  /// Whether all slots were taken when a request came.
  var needsSlot = false
  /// Whether writes have ended since the last flush that succeeded.
  var hasUnflushedWrites = false
  /// Whether the next flush is to fail: another's told that writes may be lost.
  var owesFailure = false

  init(_ stream: ServedStream, _ frontEnd: FrontEnd, _ table: NBDConnections) {
    self.stream = stream
    self.frontEnd = frontEnd
    self.table = table
    holding = frontEnd.share(of: stream.peer.origin)
    volumes = frontEnd.volumes(for: NBDServer.hostName)
    handshake = NBDHandshake(exports: volumes.map { NBDExport($0.volume, access: $0.access) })
    slots = FixedTable(repeating: Slot(), count: table.depth)
    freeSlots = IndexPool(capacity: table.depth)
    deferred = IndexQueue(capacity: table.depth)
    send(NBDHandshake.greeting)
  }

  private func send(_ bytes: [UInt8]) {
    if bytes.isEmpty { return }
    stream.header(byteCount: bytes.count).copy(bytes, at: 0)
  }

  // MARK: Input

  func stream(_ stream: ServedStream, received bytes: WireView) -> Int {
    var start = 0
    while phase == .handshake {
      let left = bytes.slice(start, bytes.byteCount - start)
      let (taken, needed, outcome) = handshake.step(left)
      start += taken
      send(handshake.takeOutput())
      switch outcome {
      case .continues:
        guard taken > 0 else {
          stream.neededByteCount = needed
          return start
        }
      case .transmission(let session): begin(session)
      case .close:
        stream.close()
        return start
      case .abort(let words):
        violation(words)
        return start
      }
    }
    // What comes behind a disconnection is nothing of ours.
    return phase == .transmission ? takeRequests(bytes, from: start) : bytes.byteCount
  }

  /// The export was chosen: its volume's port is used from now on.
  private func begin(_ session: NBDSession) {
    guard let (volume, access) = volumes.first(where: { $0.volume.name == session.export.name })
    else { return violation("no such export") }
    do throws(CommonLayerError) {
      let port = try frontEnd.port(on: volume, access: access)
      client = port.attach(self)
      self.port = port
    } catch { return violation("\(error)") }
    rules = session.rules
    blockShift = UInt64(volume.blockByteCount.trailingZeroBitCount)
    phase = .transmission
    stream.isKnown = true
    table.add(self)
    frontEnd.log("nbd \(stream.peer) at \(volume.name): attached")
  }

  /// The client broke the protocol.
  func violation(_ words: String) {
    frontEnd.log("nbd \(stream.peer): \(words); the connection is closed")
    stream.reset()
  }

  /// Takes no request until something comes free.
  func wait() {
    stream.pauseInput()
    if isWaiting { return }
    isWaiting = true
    frontEnd.wait(self)
  }

  func retry() -> Bool {
    while let number = deferred.first {
      guard submit(number) else { return false }
      _ = deferred.pop()
    }
    isWaiting = false
    stream.resumeInput()
    return true
  }

  // MARK: End

  func stream(_ stream: ServedStream, closed reason: StreamEnd) {
    if let port, phase != .gone {
      frontEnd.log("nbd \(stream.peer) at \(port.volume.name): detached, \(reason)")
    } else if reason == .handshakeTimeout {
      frontEnd.log("nbd \(stream.peer): \(reason)")
    }
    phase = .gone
    table.remove(self)
    if isWaiting { frontEnd.stopWaiting(self) }
    if let port, let client { port.quiesce(client) }
  }

  func portDidQuiesce(_ port: ServedPort) {
    for number in 0..<slots.count where slots[number].isTaken { giveBack(number) }
  }

  // MARK: Slots

  /// A slot for a request; nil when all are taken: input rests until one comes free.
  func takeSlot(_ request: NBDRequest, _ command: NBD.Command) -> Int? {
    guard let number = freeSlots.take() else {
      needsSlot = true
      stream.pauseInput()
      return nil
    }
    slots[number] = Slot(
      cookie: request.cookie, offset: request.offset, length: request.length, command: command,
      flags: request.flags, isTaken: true)
    return number
  }

  /// The request of a slot is answered, or will not be.
  func giveBack(_ number: Int) {
    if let buffer = slots[number].buffer { frontEnd.buffers.give(buffer, of: holding) }
    slots[number].buffer = nil
    slots[number].isTaken = false
    freeSlots.give(number)
    if phase == .disconnecting { closeIfIdle() }
    if needsSlot, phase == .transmission {
      needsSlot = false
      if !isWaiting { stream.resumeInput() }
    }
  }

  /// Ends the connection once everything that was asked for has ended. (NB-26)
  func closeIfIdle() {
    if freeSlots.count == slots.count { stream.close() }
  }

  func hearOfLoss(of volume: Volume) {
    if port?.volume === volume, hasUnflushedWrites { owesFailure = true }
  }
}
