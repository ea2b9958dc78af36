import FabricPlatform
import FabricVerbs

/// The judge's end of a channel: what both halves do alike. `HostEnd` and `UnitEnd` are the two.
///
/// What comes is checked as it comes, whatever the case is about: a message that breaks MS-1, MS-5 or MS-6 is a
/// finding of any case.
class ChannelEnd {
  let line: Line
  private var sentCount: UInt32 = 0
  /// Buffers of the peer that were filled and not given back, with how often.
  private(set) var filled: [UInt16: Int] = [:]
  /// What the peer said of itself.
  var peer: OpeningRecord?
  /// What the peer said that it has reposted.
  private(set) var peerRepostedCount: UInt32 = 0
  /// Whether a `close` of the peer's is answered by hanging up. (MS-10)
  var leavesOnClose = true
  private(set) var hasPeerClosed = false
  /// Whether it beats as often as the peer asks: cases about silence do not. (MS-11)
  var beats = true
  private var lastSent = MonotonicTime.now
  /// Receives that the peer was told of as reposted, and messages of its that were taken.
  private var toldCount: UInt32 = 0
  private var takenCount = 0

  init(_ line: Line) { self.line = line }

  /// Messages and immediates that came in all.
  var messageCount: Int { line.arrivalCount }
  var isOver: Bool { line.end != nil }

  // MARK: For subclasses

  /// How many buffers the peer may name; it fills none where there are none.
  var ownBufferCount: Int { 0 }
  /// Whether the opening is over.
  var isOpen: Bool { peer != nil }
  /// Receives that the peer was told of in the opening.
  var ownReceiveCount: Int { 64 }
  func noteSent(kind: UInt16, tag: UInt32, _ payload: [UInt8]) {}
  func take(_ message: MessageRecord) throws {}
  func take(immediate: UInt32) throws {}

  // MARK: Sending

  func send(_ message: MessageRecord) throws {
    try waitForCredit()
    if message.type == MessageRecord.Kind.user {
      // Behind a buffer's name.
      noteSent(
        kind: message.kind, tag: message.tag,
        Array(message.body.dropFirst(message.bufferCount == 1 ? 8 : 0)))
    }
    var message = message
    message.reposted &+= noteTelling()
    sentCount &+= 1
    try line.send(message)
  }

  /// What the next header tells of receives.
  private func noteTelling() -> UInt32 {
    lastSent = .now
    toldCount = line.repostedCount
    return toldCount
  }

  /// How many messages more the peer has receives for. (MS-5)
  private var credit: Int {
    guard let peer else { return 1 }
    return Int(peer.receiveCount) + Int(peerRepostedCount) - Int(sentCount)
  }

  /// An honest peer waits where there is no receive.
  private func waitForCredit() throws {
    guard isOpen, credit <= 0, !isOver else { return }
    try wait("credit for a message") { credit > 0 || isOver }
  }

  /// Sends a message of the user's.
  func send(kind: UInt16, tag: UInt32 = 0, _ payload: [UInt8]) throws {
    try send(MessageRecord(MessageRecord.Kind.user, kind: kind, tag: tag, body: payload))
  }

  /// Sends bytes as they are.
  func sendRaw(_ bytes: [UInt8]) throws {
    sentCount &+= 1
    try line.send(bytes)
  }

  // MARK: Buffers of the peer

  /// A buffer of the peer that is free.
  func freeBuffer() throws -> UInt16 {
    guard let peer, peer.bufferCount > 0 else {
      throw Finding("expected that the peer advertises buffers, got none")
    }
    try wait("a free buffer") { filled.count < Int(peer.bufferCount) }
    return (0..<UInt16(peer.bufferCount)).first { filled[$0] == nil }!
  }

  /// Where the data of a buffer lies. (MS-6)
  func address(of buffer: UInt16) -> UInt64 {
    peer!.bufferAddress + UInt64(buffer) * (4096 + UInt64(peer!.bufferByteCount)) + 4096
  }

  func note(filled buffer: UInt16) { filled[buffer, default: 0] += 1 }
  func note(sent count: UInt32) { sentCount &+= count }

  /// A transfer as MS-8 has it: data first, then a message that names the buffer.
  func transfer(kind: UInt16, tag: UInt32, _ payload: [UInt8], data: [UInt8]) throws {
    let buffer = try freeBuffer()
    note(filled: buffer)
    try line.write(data, to: address(of: buffer), key: peer!.bufferKey)
    var message = MessageRecord(MessageRecord.Kind.user, kind: kind, tag: tag)
    message.bufferCount = 1
    message.body.put(buffer)
    message.body.put(UInt16(0))
    message.body.put(UInt32(data.count))
    message.body += payload
    try send(message)
  }

  /// A transfer as MS-7 has it: one write, told by its immediate.
  func transferWithImmediate(
    kind: UInt16, tag: UInt32, _ payload: [UInt8], data: [UInt8]
  ) throws {
    let buffer = try freeBuffer()
    note(filled: buffer)
    noteSent(kind: kind, tag: tag, payload)
    try waitForCredit()
    var message = MessageRecord(MessageRecord.Kind.user, kind: kind, tag: tag, body: payload)
    message.reposted = noteTelling()
    let front = message.bytes
    sentCount &+= 1
    try line.write(
      front + data, to: address(of: buffer) - UInt64(front.count), key: peer!.bufferKey,
      immediate: UInt32(front.count) << 16 | UInt32(buffer))
  }

  /// Tells an immediate with a write of no bytes.
  func tell(immediate: UInt32) throws {
    try waitForCredit()
    sentCount &+= 1
    try line.write([], to: 0, key: 0, immediate: immediate)
  }

  // MARK: Receiving

  /// Waits for something; what does not come in time is a finding.
  func wait(_ what: String, _ limit: Duration = .seconds(6), until isDone: () -> Bool) throws {
    try line.checkTime()
    let came = try line.wait(limit) {
      try takeArrivals()
      return isDone()
    }
    try expect(
      came, "expected \(what) in \(limit), got \(line.end.map { "the end: \($0)" } ?? "nothing")")
  }

  /// Waits a while, taking what comes.
  func idle(_ time: Duration) throws {
    try line.checkTime()
    _ = try line.wait(time) {
      try takeArrivals()
      return false
    }
  }

  /// Throws unless the peer ends the connection.
  func expectEnd(_ limit: Duration = .seconds(3), after what: String) throws {
    try wait("that the peer ends the channel after \(what)", limit) { isOver }
  }

  func takeArrivals() throws {
    while let arrival = line.takeArrival() {
      takenCount += 1
      try expect(
        takenCount <= ownReceiveCount + Int(toldCount),
        "MS-5: expected at most \(ownReceiveCount) messages and \(toldCount), of which receives were told, got another one"
      )
      switch arrival {
      case .immediate(let value): try take(immediate: value)
      case .message(let bytes):
        guard let message = MessageRecord(bytes) else {
          throw Finding("MS-1: expected a message of at least 16 bytes, got \(bytes.count)")
        }
        try check(message)
        try take(message)
      }
    }
    try beat()
  }

  private func beat() throws {
    guard beats, isOpen, !isOver, let peer, peer.heartbeatMilliseconds > 0, credit > 0 else {
      return
    }
    let interval = Int64(max(100, peer.heartbeatMilliseconds)) * 3 / 4
    if MonotonicTime.now >= lastSent + .milliseconds(interval) {
      try send(MessageRecord(MessageRecord.Kind.credit))
    }
  }

  /// What every header has to be, in a message as in front of a transfer's data.
  func check(_ message: MessageRecord) throws {
    try expect(
      (1...10).contains(message.type) && message.bufferCount <= (ownBufferCount > 0 ? 1 : 0),
      "MS-1: expected a known type and no buffer that is not there, got \(message)")
    try expect(
      message.reposted <= sentCount && message.reposted >= peerRepostedCount,
      "MS-5: expected \(peerRepostedCount) to \(sentCount) as reposted, got \(message)")
    peerRepostedCount = message.reposted
    for id in [message.returns.0, message.returns.1] where id != MessageRecord.noBuffer {
      try takeBack(id, message)
    }
    switch message.type {
    case MessageRecord.Kind.bufferReturn:
      let said = message.body.count >= 8 ? message.body.number(UInt64.self, at: 0) : .max
      let count = Int(min(said, 4096))
      try expect(
        said <= 4096 && message.body.count == 8 + 2 * count,
        "MS-6: expected as many buffers as it says, got \(message)")
      for index in 0..<count {
        try takeBack(message.body.number(UInt16.self, at: 8 + 2 * index), message)
      }
    case MessageRecord.Kind.close:
      hasPeerClosed = true
      if leavesOnClose { line.leave() }
    default: break
    }
  }

  private func takeBack(_ id: UInt16, _ message: MessageRecord) throws {
    guard let count = filled[id] else {
      throw Finding("MS-6: expected back a buffer that was filled, got \(message)")
    }
    filled[id] = count > 1 ? count - 1 : nil
  }
}
