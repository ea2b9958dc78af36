import FabricBounded
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricWire

/// A queue that comes over a TCP connection. (NVMe/TCP Transport 1.0)
final class TCPQueue: CommandQueue, StreamHandler {
  /// Bytes that an admin or a Connect capsule carries itself. (NVMe/TCP 1.0, section 3.3.1)
  static let adminCapsuleByteCount = 8192
  /// Of one H2CData PDU.
  static let hostDataByteCount = 1 << 20

  let stream: ServedStream
  /// Bytes that a capsule of an I/O queue carries itself.
  private let inCapsuleByteCount: Int

  // What was agreed on.
  private(set) var usesHeaderDigest = false
  private(set) var usesDataDigest = false
  /// What the host wants data to begin at a multiple of.
  private(set) var hostAlignment = 4

  /// Whether a capsule waits for a buffer, and with it all input.
  var inputRests = false
  /// Memory for the data of one capsule, for when there is no buffer: what frees buffers may come behind
  /// the capsule, so that it cannot wait for them.
  private lazy var ownMemory = CapsuleMemory(
    byteCount: max(Self.adminCapsuleByteCount, inCapsuleByteCount))
  private var ownMemoryIsTaken = false

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
    self.stream = stream
    inCapsuleByteCount = target.subsystem.options.inCapsuleByteCount
    super.init(
      target, frontEnd: frontEnd, origin: stream.peer.origin, phase: .initializing, slotCount: 1)
  }

  override var peerName: String { "nvme \(stream.peer)" }
  override var transport: QueueTransport {
    QueueTransport(kind: .tcp, inCapsuleByteCount: inCapsuleByteCount)
  }
  override var reachedAt: DiscoveryEntry.Host? { stream.ownAddress.map(DiscoveryEntry.Host.init) }
  override var sendsInPlace: Bool { !usesDataDigest }

  var headerDigestByteCount: Int { usesHeaderDigest ? PDU.digestByteCount : 0 }
  var dataDigestByteCount: Int { usesDataDigest ? PDU.digestByteCount : 0 }
  /// Bytes of data that a capsule may carry.
  var capsuleByteCount: Int {
    isAdmin ? Self.adminCapsuleByteCount : inCapsuleByteCount
  }

  // MARK: Commands

  /// (NVMe/TCP 1.0, section 3.4)
  override func judgeDescriptor(_ number: Int, dataByteCount: Int) -> Status {
    let data = slots[number].command.data
    let isNeeded = slots[number].io.direction == .fromHost && slots[number].io.byteCount > 0
    let isWanted = slots[number].io.direction == .toHost && slots[number].io.byteCount > 0
    switch data.form {
    case .inCapsule:
      return judgeCapsuleData(number, dataByteCount: dataByteCount)
    case .transport: return dataByteCount == 0 ? .success : .descriptorTypeInvalid
    default:
      // Data that no descriptor names has no place.
      return isNeeded || isWanted || dataByteCount > 0 ? .descriptorTypeInvalid : .success
    }
  }

  override func fetchData(_ number: Int) { askForData(number) }

  override func respond(_ number: Int, withDataAt address: UInt64, isInPlace: Bool) {
    let isLate = !isInPlace
    sendData(
      number, address: address, byteCount: Int(slots[number].io.byteCount),
      token: isLate ? UInt64(number) : nil)
    if !endsWithData { sendCompletion(number, .success, result: 0) }
    // Otherwise the buffer comes back when the data is out.
    guard !isLate else { return }
    freeSlots.give(number)
    closeIfIdle()
  }

  override func respond(_ number: Int, with bytes: [UInt8]) {
    sendCopy(number, of: bytes)
    respond(number, .success, result: 0)
  }

  override func respond(_ number: Int, _ status: Status, result: UInt64) {
    sendCompletion(number, status, result: result)
    forget(number)
  }

  // MARK: Buffers

  override func buffer(byteCount: Int, isOfCapsule: Bool) -> CommandBuffer? {
    if let lent = super.buffer(byteCount: byteCount, isOfCapsule: isOfCapsule) { return lent }
    guard isOfCapsule, !ownMemoryIsTaken, byteCount <= ownMemory.byteCount else { return nil }
    ownMemoryIsTaken = true
    return CommandBuffer(address: ownMemory.address, byteCount: ownMemory.byteCount)
  }

  override func give(_ buffer: CommandBuffer) {
    if buffer.lent == nil { ownMemoryIsTaken = false } else { super.give(buffer) }
  }

  /// Looks at no more input until a capsule's data would find a buffer.
  func rest() {
    inputRests = true
    stream.pauseInput()
    beginWaiting()
  }

  override func retryInput() -> Bool {
    if inputRests, !ownMemoryIsTaken {
      inputRests = false
      stream.resumeInput()
    }
    return inputRests
  }

  // MARK: Life

  func agree(headerDigest: Bool, dataDigest: Bool, hostAlignment: Int) {
    usesHeaderDigest = headerDigest
    usesDataDigest = dataDigest
    self.hostAlignment = hostAlignment
    phase = .connecting
  }

  override func hasConnected(_ slot: Int, depth: Int) -> Int {
    stream.isKnown = true
    // The host may have one command less under way than its queue has entries, but need not know that.
    return makeSlots(depth, keeping: slot)
  }

  var owesData: Bool { fetchCount > 0 }

  override func closeInOrder() { stream.close() }
  override func reset() { stream.reset() }

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
    let isEarly = phase == .initializing || phase == .connecting
    if isEarly && reason == .handshakeTimeout || reason == .stalled {
      frontEnd.log("\(name): \(reason)")
    }
    connectionHasEnded()
  }

  func stream(_ stream: ServedStream, sent tokens: Span<UInt64>) {
    for index in tokens.indices {
      let number = Int(truncatingIfNeeded: tokens[index])
      giveBuffer(number)
      freeSlots.give(number)
    }
    frontEnd.somethingCameFree()
    closeIfIdle()
  }
}

/// Memory that goes with its object.
@safe
final class CapsuleMemory {
  private let memory: UnsafeMutableRawPointer
  let byteCount: Int

  init(byteCount: Int) {
    self.byteCount = byteCount
    unsafe memory = .allocate(byteCount: byteCount, alignment: 4096)
  }

  deinit { unsafe memory.deallocate() }

  var address: UInt64 { unsafe UInt64(UInt(bitPattern: memory)) }
}
