import FabricMessaging
import FabricPlatform
import FabricVerbs

/// The judge as a unit of the host under judgement: it serves a small volume from memory, honestly but where a case
/// asks for something else.
final class UnitEnd: ChannelEnd {
  /// The volume that it serves.
  static let blockByteCount = 512
  static let blockCount = 2048
  private static let identity: (high: UInt64, low: UInt64) = (0x636f_6e66, 0x6f72_6d21)
  private static let name = "fabconform"
  private static let bufferByteCount = 65536

  /// What a unit of a case does otherwise.
  struct Plan: Sendable {
    var receiveCount: UInt32 = 64
    var bufferCount: UInt32 = 16
    var depth: UInt16 = 16
    var pathState: UInt8 = 0
    var heartbeatMilliseconds: UInt32 = 60_000
    /// Whether receives that were used are posted anew at once.
    var reposts = true
    /// Changes the answer, before it is sent.
    var opening: @Sendable (inout OpeningRecord) -> Void = { _ in }
    var greeting: @Sendable (inout UnitGreeting) -> Void = { _ in }
    var keys = UnitKeys.Plan()
  }

  let plan: Plan
  private let store: BlockMemory
  private let buffers: MemoryRegion
  private let bufferKey: RemoteKey
  /// Where a key is to be proven.
  private(set) var keys: UnitKeys?
  /// The host's greeting.
  private(set) var greeting: HostGreeting?
  /// The host's, for want of a key.
  private(set) var refusal: MessageRecord?
  /// Commands that were not answered yet, in order of their arrival, with their data.
  private(set) var commands: [(command: CommandRecord, data: [UInt8]?)] = []
  private(set) var commandCount = 0
  private(set) var controlCalls: [MessageRecord] = []
  private(set) var fences: [MessageRecord] = []
  private(set) var queries: [MessageRecord] = []
  private var isReady = false
  private var unreturned: Set<UInt16> = []
  /// The most buffers that the host had filled at once.
  private(set) var mostFilled = 0
  private var returns: [UInt16] = []
  /// Whether buffers go back as soon as they were read.
  var returnsBuffers = true

  private var hasAnswered = false
  private var pushCount = 0

  override var ownBufferCount: Int { Int(plan.bufferCount) }
  override var ownReceiveCount: Int { Int(plan.receiveCount) }
  override var isOpen: Bool { hasAnswered && peer != nil }

  init(_ line: Line, _ plan: Plan, _ store: BlockMemory, key: (any ChannelKey)?) throws {
    self.plan = plan
    keys = key.map { UnitKeys($0, plan.keys) }
    self.store = store
    buffers = try line.allocate(byteCount: Int(plan.bufferCount) * (4096 + Self.bufferByteCount))
    bufferKey = try line.grantWrites(to: buffers)
    super.init(line)
  }

  // MARK: Opening

  /// Waits for the host's wish to prove a key.
  func waitForHello() throws {
    try wait("`hello` from the host", .seconds(6)) { keys?.nonce != nil || isOver }
    try expect(keys?.nonce != nil, "expected `hello`, got \(line.end ?? "nothing")")
  }

  /// Waits for the host's opening.
  func waitForOpening() throws {
    try wait("`open` from the host", .seconds(6)) { greeting != nil || isOver }
    try expect(greeting != nil, "expected `open`, got \(line.end ?? "nothing")")
  }

  /// Answers the opening.
  func sendOpened() throws {
    var answer = UnitGreeting(name: Self.name)
    let isDiscovery = greeting?.volume.isEmpty ?? false
    if !isDiscovery {
      answer.identity = Self.identity
      answer.blockCount = UInt64(Self.blockCount)
      answer.blockByteCount = UInt32(Self.blockByteCount)
      answer.maximumTransferByteCount = UInt32(Self.bufferByteCount)
      answer.depth = min(plan.depth, greeting?.depth ?? plan.depth)
      answer.pathState = plan.pathState
    }
    answer.access = isDiscovery ? 0 : greeting?.access ?? 1
    plan.greeting(&answer)
    var opening = OpeningRecord(greeting: answer.bytes)
    opening.receiveCount = plan.receiveCount
    opening.bufferCount = plan.bufferCount
    opening.bufferByteCount = UInt32(Self.bufferByteCount)
    opening.bufferAddress = buffers.address
    opening.bufferKey = bufferKey.rawValue
    opening.heartbeatMilliseconds = plan.heartbeatMilliseconds
    opening.flags = line.adapter.capabilities.hasImmediateWrite ? 1 : 0
    plan.opening(&opening)
    var body = opening.bytes
    if let proof = keys?.proof(ofOpened: body) { body += proof }
    try send(MessageRecord(MessageRecord.Kind.opened, body: body))
    hasAnswered = true
  }

  func sendReady() throws {
    isReady = true
    try send(kind: BlockKind.ready, [])
  }

  /// The opening, as an honest unit does it.
  func open() throws {
    try waitForOpening()
    try sendOpened()
    if greeting?.volume.isEmpty == false { try sendReady() }
  }

  // MARK: Serving

  /// Answers everything until something holds, or the host has gone.
  func serve(_ limit: Duration, until isDone: () -> Bool) throws {
    let deadline = MonotonicTime.now + limit
    while !isOver && !isDone() && .now < deadline {
      try line.wait(.milliseconds(20)) {
        try takeArrivals()
        return isOver || isDone() || !commands.isEmpty || !controlCalls.isEmpty
          || !queries.isEmpty || !fences.isEmpty
      }
      if !isDone() { try answerAll() }
    }
  }

  /// Answers what has come.
  func answerAll() throws {
    while !isOver, !commands.isEmpty { try answerFirst() }
    while !isOver, let fence = takeFence() { try answer(fence: fence) }
    try answerCalls()
    while !isOver, let query = queries.first {
      queries.removeFirst()
      try answer(query: query)
    }
  }

  /// Carries the first command out, and answers it.
  func answerFirst() throws {
    let (command, data) = commands.removeFirst()
    let outcome = store.carryOut(command, data)
    if let read = outcome.data, outcome.status == 0 {
      // Staging holds so much at once.
      for start in stride(from: 0, to: read.count, by: 4096) {
        try line.write(
          Array(read[start..<min(read.count, start + 4096)]), to: command.address &+ UInt64(start),
          key: command.key)
      }
      // Every other one is told by a push: both are ends. (IO-34)
      pushCount += 1
      if pushCount.isMultiple(of: 2) { return try tellPush(command.tag) }
    }
    let count = outcome.status == 0 ? command.dataByteCount : 0
    try respond(
      ResponseRecord(tag: command.tag, status: outcome.status, transferredByteCount: count))
  }

  /// The end of a push, in the form that the host understands. (MS-9)
  private func tellPush(_ tag: UInt32) throws {
    guard peer!.flags & 1 == 1, line.adapter.capabilities.hasImmediateWrite else {
      return try send(MessageRecord(MessageRecord.Kind.pushed, tag: tag))
    }
    try tell(immediate: 1 << 31 | tag)
  }

  func respond(_ response: ResponseRecord) throws {
    var message = MessageRecord(
      MessageRecord.Kind.user, kind: BlockKind.response, tag: response.tag, body: response.bytes)
    if let first = returns.first {
      message.returns.0 = first
      returns.removeFirst()
    }
    try send(message)
  }

  func takeCall() -> MessageRecord? { controlCalls.isEmpty ? nil : controlCalls.removeFirst() }
  func takeFence() -> MessageRecord? { fences.isEmpty ? nil : fences.removeFirst() }

  /// Answers what hosts ask before their first command, perhaps.
  func answerCalls() throws {
    while !isOver, let call = takeCall() { try answer(call) }
  }

  /// What its volume is, to who asks; it knows no other control call. (IO-72, IO-74)
  private func answer(_ call: MessageRecord) throws {
    let code = call.body.number(UInt32.self, at: 0)
    var body: [UInt8] = []
    guard code == 1 else {
      body.put(UInt32(25))
      body.put(zeroes: 8)
      return try send(kind: BlockKind.controlAnswer, tag: call.tag, body)
    }
    var facts: [UInt8] = []
    facts.put(Self.identity.high)
    facts.put(Self.identity.low)
    facts.put(UInt64(Self.blockCount))
    facts.put(UInt32(Self.blockByteCount))
    let (volume, unit) = (greeting!.volume, Self.name)
    facts += [greeting!.access, UInt8(volume.utf8.count), UInt8(unit.utf8.count), 0]
    facts.put(volume)
    facts.put(unit)
    body.put(zeroes: 8)
    body.put(UInt16(facts.count))
    body.put(UInt16(0))
    try send(kind: BlockKind.controlAnswer, tag: call.tag, body + facts)
  }

  /// The connection is not remembered, and nothing of it under way. (IO-52)
  func answer(fence: MessageRecord) throws {
    var body = Array(fence.body[..<6])
    body.put(UInt16(0))
    for index in 0..<Int(fence.body[5]) {
      body += fence.body[(8 + 4 * index)..<(12 + 4 * index)]
      body.put(zeroes: 8)
    }
    try send(kind: BlockKind.fenced, tag: fence.tag, body)
  }

  /// No volumes but one, and no addresses.
  private func answer(query: MessageRecord) throws {
    if query.kind == BlockKind.addressQuery {
      return try send(kind: BlockKind.addressEntry, tag: query.tag, [0, 0, 0, 0])
    }
    let name = "conformance"
    guard query.body.text(at: 0, byteCount: 64) < name else {
      return try send(
        kind: BlockKind.volumeEntry, tag: query.tag, [UInt8](repeating: 0, count: 32))
    }
    var body: [UInt8] = [1, 1, UInt8(name.utf8.count), 0]
    body.put(UInt32(Self.blockByteCount))
    body.put(Self.identity.high)
    body.put(Self.identity.low)
    body.put(UInt64(Self.blockCount))
    body.put(name)
    try send(kind: BlockKind.volumeEntry, tag: query.tag, body)
  }

  // MARK: Receiving

  override func take(immediate: UInt32) throws {
    try expect(
      immediate >> 31 == 0,
      "MS-9: expected no push of what this unit did not ask for, got immediate \(immediate)")
    let count = Int(immediate >> 16)
    let id = UInt16(truncatingIfNeeded: immediate)
    try expect(
      Int(id) < ownBufferCount && (16...4096).contains(count),
      "MS-7: expected a buffer of \(ownBufferCount) and 16 to 4096 bytes, got buffer \(id), \(count) bytes"
    )
    let end = offset(of: id)
    let front = unsafe [UInt8](buffers.bytes[end - count..<end])
    guard let message = MessageRecord(front) else { return }
    try check(message)
    try take(message, buffer: id, payload: message.body, dataByteCount: nil)
  }

  override func take(_ message: MessageRecord) throws {
    switch message.type {
    case MessageRecord.Kind.open: try takeOpen(message)
    case MessageRecord.Kind.hello: try takeHello(message)
    case MessageRecord.Kind.refused where keys?.nonce != nil && peer == nil: refusal = message
    case MessageRecord.Kind.user where message.bufferCount == 1:
      try expect(
        message.body.count >= 8, "MS-8: expected a buffer's name of 8 bytes, got \(message)")
      try take(
        message, buffer: message.body.number(UInt16.self, at: 0),
        payload: Array(message.body[8...]),
        dataByteCount: Int(message.body.number(UInt32.self, at: 4)))
    case MessageRecord.Kind.user:
      try take(message, buffer: nil, payload: message.body, dataByteCount: nil)
    case MessageRecord.Kind.credit, MessageRecord.Kind.bufferReturn, MessageRecord.Kind.close: break
    default: throw Finding("MS-2: expected nothing of that type here, got \(message)")
    }
  }

  private func takeHello(_ message: MessageRecord) throws {
    guard let challenge = try keys?.challenge(answering: message) else {
      throw NotApplicable(
        "the host wants to prove a key: give it with --key-file, or none to the host")
    }
    guard plan.keys.answersHello else { return }
    try send(MessageRecord(MessageRecord.Kind.challenge, body: challenge))
  }

  private func takeOpen(_ message: MessageRecord) throws {
    try expect(peer == nil, "MS-3: expected one `open`, got a second one")
    let body = try keys?.check(open: message) ?? message.body
    guard let opening = OpeningRecord(body) else {
      throw Finding("MS-3: expected at least 64 bytes of `open`, got \(message)")
    }
    if let fault = opening.fault { throw Finding("MS-3: \(fault)") }
    guard let greeting = HostGreeting(opening.greeting) else {
      throw Finding("IO-10: expected at least 32 bytes of greeting, got \(opening)")
    }
    peer = opening
    self.greeting = greeting
  }

  private func offset(of buffer: UInt16) -> Int {
    Int(buffer) * (4096 + Self.bufferByteCount) + 4096
  }

  private func take(
    _ message: MessageRecord, buffer: UInt16?, payload: [UInt8], dataByteCount: Int?
  ) throws {
    try expect(peer != nil, "MS-3: expected `open` first, got \(message)")
    let isQuery = [BlockKind.volumeQuery, BlockKind.addressQuery].contains(message.kind)
    try expect(
      isQuery || greeting?.volume.isEmpty == false,
      "IO-11: expected queries alone on a discovery channel, got \(message)")
    switch message.kind {
    case BlockKind.command: try takeCommand(message, buffer, payload, dataByteCount)
    case BlockKind.controlCall: controlCalls.append(message)
    case BlockKind.fence:
      try expect(
        message.body.count >= 8 && message.body.count == 8 + 4 * Int(message.body[5]),
        "IO-50: expected as many tags as it says, got \(message)")
      fences.append(message)
    case BlockKind.volumeQuery, BlockKind.addressQuery: queries.append(message)
    default: throw Finding("IO-20: expected a message that hosts send, got \(message)")
    }
  }

  private func takeCommand(
    _ message: MessageRecord, _ buffer: UInt16?, _ payload: [UInt8], _ dataByteCount: Int?
  ) throws {
    guard let command = CommandRecord(payload) else {
      throw Finding("IO-30: expected 64 bytes of command, got \(payload.count)")
    }
    try expect(isReady, "IO-21: expected no command before `ready`, got \(command)")
    try expect(
      command.tag >> 31 == 0 && command.tag == message.tag,
      "IO-22: expected the message's tag in the command and its highest bit 0, got \(command)")
    try expect(
      !commands.contains { $0.command.tag == command.tag },
      "IO-22: expected a tag that no command under way has, got \(command)")
    try expect(
      command.reserved == 0 && command.lastReserved == 0 && command.flags & ~1 == 0,
      "IO-5: expected zeroes in reserved bytes and flags, got \(command)")
    var data: [UInt8]?
    if let buffer {
      try expect(
        Int(buffer) < ownBufferCount && unreturned.insert(buffer).inserted,
        "MS-6: expected a buffer that is free, got \(buffer) again")
      mostFilled = max(mostFilled, unreturned.count)
      try expect(
        Int(command.dataByteCount) <= Self.bufferByteCount,
        "IO-31: expected at most \(Self.bufferByteCount) bytes in a buffer, got \(command)")
      let start = offset(of: buffer)
      data = unsafe [UInt8](buffers.bytes[start..<start + Int(command.dataByteCount)])
      try expect(
        dataByteCount.map { $0 == Int(command.dataByteCount) } ?? true,
        "IO-31: expected the byte count of the data, got \(command)")
      if returnsBuffers {
        unreturned.remove(buffer)
        returns.append(buffer)
      }
    }
    commands.append((command, data))
    commandCount += 1
    try expect(
      commands.count <= Int(min(plan.depth, greeting?.depth ?? plan.depth)),
      "IO-21: expected at most \(plan.depth) commands at once, got \(commands.count)")
  }
}
