import FabricBounded
import FabricCompletion
import FabricFrontEnds
import FabricNVMe
import FabricPlatform
import FabricStorage
import FabricVerbs
import FabricWire

/// A queue that comes over a queue pair: commands as sends into posted receives, data by RDMA reads and
/// writes of the controller's, completions as sends. (NVMe over Fabrics 1.1, section 7.3)
///
/// What is to be posted is gathered and posted once for a run of completions.
final class RDMAQueue: CommandQueue, CompletionHandler {
  /// What the low bits of a request's identifier say; above them is the capsule's or slot's number.
  private enum Work: UInt64 {
    case receive, fetch, data, completion

    static let bitCount: UInt64 = 2

    func identifier(_ number: Int) -> UInt64 { UInt64(number) << Self.bitCount | rawValue }

    init(_ identifier: UInt64) {
      self = Work(rawValue: identifier & (1 << Self.bitCount - 1)) ?? .receive
    }
  }

  /// Bytes of data that come with a command of an I/O queue.
  static let inCapsuleByteCount = 4096
  /// A slot is free once its completion is known to have gone out, and the host may be faster with its next
  /// command than that is known.
  static let slotsPerEntry = 2
  /// Fetching its data, sending it, and its completion.
  static let sendsPerSlot = 3

  /// Commands that the host sends at once.
  let entryCount: Int
  /// What the connection request asked for.
  private let askedQueue: UInt16
  let queuePair: any QueuePair
  let completionQueue: any CompletionQueue
  private unowned let server: NVMeRDMAServer
  private let peer: String
  private let memory: RDMAQueueMemory
  /// By slot: the capsule that its command came in.
  private let capsules: FixedTable<UInt32>
  /// By capsule: its bytes.
  private let byteCounts: FixedTable<UInt32>
  /// Capsules that wait for a slot, or for the connection to be established, oldest first.
  private let pending: IndexQueue
  private let sends: FixedTable<SendRequest>
  private let receives: FixedTable<ReceiveRequest>
  private var sendCount = 0
  private var receiveCount = 0
  /// Completions on their way out.
  private var completionCount = 0
  private var ownMemoryIsTaken = false
  private var isEstablished = false
  /// When it ends, unless it has said who it is or has closed by then.
  var deadline = MonotonicTime(nanoseconds: .max)
  /// Grows with every end of something that the host has a part in.
  private(set) var progress: UInt64 = 0
  /// Whether the server knows that something is to be posted.
  var isTouched = false
  /// Whether the queue pair is gone, or is about to.
  var hasGone = false

  /// - Parameters:
  ///   - entryCount: commands that the host sends at once.
  ///   - completionQueue: has room for `workCount(entryCount)`.
  /// - Throws: `RegistrationError` or `ResourceError`; nothing is left behind.
  init(
    _ target: NVMeTarget, frontEnd: FrontEnd, server: NVMeRDMAServer, peer: String,
    origin: [UInt8], entryCount: Int, queue askedQueue: UInt16, adapter: any Adapter,
    domain: any ProtectionDomain, completionQueue: any CompletionQueue
  ) throws {
    let slotCount = Self.slotsPerEntry * entryCount
    memory = try RDMAQueueMemory(
      receiveCount: entryCount, dataByteCount: askedQueue == 0 ? 0 : Self.inCapsuleByteCount,
      completionCount: slotCount, in: domain)
    do {
      queuePair = try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: domain, sendCompletionQueue: completionQueue,
          receiveCompletionQueue: completionQueue,
          sendCapacity: Self.sendsPerSlot * slotCount, receiveCapacity: entryCount))
    } catch {
      memory.release()
      throw error
    }
    self.entryCount = entryCount
    self.askedQueue = askedQueue
    self.completionQueue = completionQueue
    self.server = server
    self.peer = peer
    capsules = FixedTable(repeating: 0, count: slotCount)
    byteCounts = FixedTable(repeating: 0, count: entryCount)
    pending = IndexQueue(capacity: entryCount)
    sends = FixedTable(
      repeating: SendRequest(id: 0, opcode: .send, elements: ScatterGatherList()),
      count: Self.sendsPerSlot * slotCount)
    receives = FixedTable(
      repeating: ReceiveRequest(id: 0, elements: ScatterGatherList()), count: entryCount)
    super.init(
      target, frontEnd: frontEnd, origin: origin, phase: .connecting,
      slotCount: slotCount)
    for capsule in 0..<entryCount { queueReceive(capsule) }
  }

  /// Requests that a queue may have under way.
  static func workCount(_ entryCount: Int) -> Int {
    (1 + slotsPerEntry * sendsPerSlot) * entryCount
  }

  override var peerName: String { "nvme \(peer)" }
  override var transport: QueueTransport {
    QueueTransport(kind: .rdma, inCapsuleByteCount: Self.inCapsuleByteCount)
  }
  override var answersFromBuffers: Bool { true }

  // MARK: What has ended

  func handle(_ completions: Span<WorkCompletion>) {
    for index in completions.indices {
      // After the end there is nothing to be done for what comes.
      if hasGone { return }
      let completion = completions[index]
      guard completion.status == .success else {
        fail("a request of the queue pair failed: \(completion.status)")
        break
      }
      let number = Int(truncatingIfNeeded: completion.id >> Work.bitCount)
      switch Work(completion.id) {
      case .receive:
        byteCounts[number] = completion.byteCount
        pending.push(number)
        takePending()
      case .fetch:
        progress &+= 1
        if phase != .ended { dataHasCome(number) }
      case .data: break
      case .completion: hasAnswered(number)
      }
    }
    frontEnd.flush()
  }

  func established() {
    isEstablished = true
    takePending()
    frontEnd.flush()
  }

  private func takePending() {
    while isEstablished, phase != .ended, let capsule = pending.first,
      let number = freeSlots.take()
    {
      _ = pending.pop()
      take(capsule, number)
    }
  }

  private func take(_ capsule: Int, _ number: Int) {
    let dataByteCount = Int(byteCounts[capsule]) - Command.byteCount
    guard dataByteCount >= 0 else {
      freeSlots.give(number)
      return fail(
        "expected a command of \(Command.byteCount) bytes or more, got \(byteCounts[capsule])")
    }
    let view = unsafe WireView(
      UnsafeRawPointer(bitPattern: UInt(memory.command(capsule)))!, byteCount: Command.byteCount)
    slots[number] = CommandSlot(command: Command(view))
    capsules[number] = UInt32(truncatingIfNeeded: capsule)
    prepare(number, dataByteCount: dataByteCount)
    countHead()
    if slots[number].status != .success || dataByteCount == 0 { return begin(number) }
    slots[number].buffer = CommandBuffer(
      address: memory.data(capsule), byteCount: memory.dataByteCount)
    slots[number].receivedByteCount = slots[number].io.byteCount
    carryOut(number)
  }

  private func hasAnswered(_ number: Int) {
    progress &+= 1
    completionCount -= 1
    forget(number)
    takePending()
  }

  // MARK: What the queue asks for

  override func judgeDescriptor(_ number: Int, dataByteCount: Int) -> Status {
    let data = slots[number].command.data
    let io = slots[number].io
    switch data.form {
    case .inCapsule: return judgeCapsuleData(number, dataByteCount: dataByteCount)
    case .keyed:
      guard dataByteCount == 0 else { return .descriptorTypeInvalid }
      return io.direction == .none || io.byteCount <= transferByteLimit ? .success : .invalidField
    default:
      // Data that no descriptor names has no place.
      let isUsed = io.direction != .none && io.byteCount > 0
      return isUsed || dataByteCount > 0 ? .descriptorTypeInvalid : .success
    }
  }

  /// Connect and most of what an admin queue asks for depend on nobody's buffers.
  override func buffer(byteCount: Int, isOfCapsule: Bool) -> CommandBuffer? {
    let mayBeOwn = isAdmin || phase == .connecting
    guard mayBeOwn, !ownMemoryIsTaken, byteCount <= RDMAQueueMemory.ownByteCount else {
      return super.buffer(byteCount: byteCount, isOfCapsule: isOfCapsule)
    }
    ownMemoryIsTaken = true
    return memory.own
  }

  override func give(_ buffer: CommandBuffer) {
    if buffer.address == memory.own.address { ownMemoryIsTaken = false } else { super.give(buffer) }
  }

  override func drop(_ number: Int) {
    queueReceive(Int(capsules[number]))
    super.drop(number)
  }

  override func refusal(of request: ConnectCommand) -> NVMSubsystem.Refusal? {
    if request.queue != askedQueue {
      return .wrongQueue(
        "expected queue \(askedQueue), as its connection request said, got \(request.queue)")
    }
    if Int(request.size) >= entryCount {
      return .wrongSize(
        "expected at most \(entryCount) entries, as its connection request said, got "
          + "\(Int(request.size) + 1)")
    }
    return nil
  }

  override func fetchData(_ number: Int) {
    queueTransfer(
      .read, .fetch, number, byteCount: Int(slots[number].io.byteCount), flags: .signaled)
  }

  override func respond(_ number: Int, withDataAt address: UInt64, isInPlace: Bool) {
    queueTransfer(.write, .data, number, byteCount: Int(slots[number].io.byteCount), flags: [])
    respond(number, .success, result: 0)
  }

  override func respond(_ number: Int, with bytes: [UInt8]) {
    guard let buffer = slots[number].buffer else { return finish(number, .internalError) }
    unsafe WireBuffer(
      UnsafeMutableRawPointer(bitPattern: UInt(buffer.address))!, byteCount: bytes.count
    ).copy(bytes, at: 0)
    queueTransfer(.write, .data, number, byteCount: bytes.count, flags: [])
    respond(number, .success, result: 0)
  }

  override func respond(_ number: Int, _ status: Status, result: UInt64) {
    guard phase != .ended else { return }
    let completion = Completion(
      slots[number].command.identifier, status, result: result, submissionHead: toldHead)
    completion.encode(
      into: unsafe WireBuffer(
        UnsafeMutableRawPointer(bitPattern: UInt(memory.completion(number)))!,
        byteCount: Completion.byteCount))
    // The host may send its next command as soon as it has the completion.
    queueReceive(Int(capsules[number]))
    completionCount += 1
    queueSend(
      SendRequest(
        id: Work.completion.identifier(number), opcode: .send, elements: memory.send(number)))
  }

  // MARK: Posting

  /// - Parameter opcode: a read or write between the slot's buffer and the host's memory.
  private func queueTransfer(
    _ opcode: SendOpcode, _ work: Work, _ number: Int, byteCount: Int, flags: SendFlags
  ) {
    guard let buffer = slots[number].buffer, byteCount > 0 else { return }
    let data = slots[number].command.data
    let key = LocalKey(rawValue: buffer.key)
    queueSend(
      SendRequest(
        id: work.identifier(number), opcode: opcode,
        elements: ScatterGatherList(
          ScatterGatherElement(
            address: buffer.address, byteCount: UInt32(byteCount), localKey: key)),
        flags: flags, remoteAddress: data.low, remoteKey: RemoteKey(rawValue: data.key)))
  }

  private func queueSend(_ request: SendRequest) {
    sends[sendCount] = request
    sendCount += 1
    server.touch(self)
  }

  private func queueReceive(_ capsule: Int) {
    receives[receiveCount] = ReceiveRequest(
      id: Work.receive.identifier(capsule), elements: memory.receive(capsule))
    receiveCount += 1
    server.touch(self)
  }

  /// Posts what was gathered.
  func post() {
    isTouched = false
    guard !hasGone else { return }
    var failure: PostError?
    if receiveCount > 0 {
      failure = receives.withSpan(prefix: receiveCount) { requests in
        do throws(PostError) {
          try queuePair.postReceive(requests)
          return nil
        } catch { return error }
      }
      receiveCount = 0
    }
    if failure == nil, sendCount > 0 {
      failure = sends.withSpan(prefix: sendCount) { requests in
        do throws(PostError) {
          try queuePair.postSend(requests)
          return nil
        } catch { return error }
      }
      sendCount = 0
    }
    if let failure { fail("posting failed: \(failure)") }
  }

  // MARK: Life

  /// Whether the host keeps buffers from others until it does something.
  var isDebtor: Bool { fetchCount > 0 || completionCount > 0 }

  /// Whether the host has said who it is.
  var isKnown: Bool { phase == .connected }

  override func close() {
    server.await(self)
    super.close()
  }

  override func closeInOrder() { end() }

  /// The connection cannot go on.
  private func fail(_ words: String) {
    guard phase != .ended else { return }
    // One that is ended by its peer says so by itself.
    if queuePair.state == .readyToSend {
      frontEnd.log("\(name): \(words); the connection is closed")
    }
    end()
  }

  override func flush() { frontEnd.flush() }

  override func reset() { server.finish(self) }

  override func hasLetGo() { memory.release() }
}
