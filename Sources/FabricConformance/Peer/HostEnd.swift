import FabricMessaging
import FabricPlatform
import FabricVerbs

/// The judge as a host of the unit under judgement: honest but where a case asks for something else.
///
/// What comes is checked as it comes, whatever the case is about: a message that breaks MS-1, MS-5 or MS-6 is a
/// finding of any case.
final class HostEnd {
  let line: Line
  private let target: UnitTarget
  private var talk: KeyTalk?
  private var sentCount: UInt32 = 0
  /// Buffers of the unit that were filled and not given back, with how often.
  private(set) var filled: [UInt16: Int] = [:]

  private(set) var opened: OpeningRecord?
  private(set) var answer: UnitGreeting?
  /// Why the unit refused, and the kind of the message.
  private(set) var refusal: (kind: UInt16, words: String)?
  private(set) var challenge: [UInt8]?
  private(set) var isReady = false
  /// Messages of the user's that were not taken yet.
  private(set) var messages: [MessageRecord] = []
  private(set) var pushes: [UInt32] = []
  /// What the unit said that it has reposted.
  private(set) var peerRepostedCount: UInt32 = 0
  private(set) var beatCount = 0
  /// Whether a `close` of the unit's is answered by hanging up. (MS-10)
  var leavesOnClose = true
  /// Every message and immediate.
  var messageCount: Int { line.arrivalCount }
  var session: (high: UInt64, low: UInt64)

  init(_ target: UnitTarget, _ line: Line) {
    self.target = target
    self.line = line
    session = (UInt64.random(in: 1 ... .max), UInt64.random(in: 0 ... .max))
  }

  // MARK: Opening

  /// Makes the fabric's connection.
  func connect() throws {
    try line.connect(to: target.address, timeout: .seconds(5))
    line.wait(.seconds(6)) { line.isEstablished || line.end != nil }
    try expect(
      line.isEstablished && line.end == nil,
      "expected that the unit takes a connection, got \(line.end ?? "no answer in 6 s")")
  }

  func greeting() -> HostGreeting {
    HostGreeting(volume: target.volume, host: target.key?.name ?? target.host, session: session)
  }

  /// Says `open`, behind what keys ask for.
  func sendOpen(_ opening: OpeningRecord) throws {
    var body = opening.bytes
    if let key = target.key, talk == nil { try proveKey(key) }
    talk?.add(body)
    if let talk { body += talk.proof(KeyTalk.Step.open) }
    try send(MessageRecord(MessageRecord.Kind.open, body: body))
  }

  private func proveKey(_ key: any ChannelKey) throws {
    let hello = KeyTalk.hello(name: key.name, nonce: KeyTalk.nonce())
    try send(MessageRecord(MessageRecord.Kind.hello, body: hello))
    try wait("a challenge") { challenge != nil || refusal != nil }
    guard let challenge else {
      throw Finding("expected a challenge, got a refusal: \(refusal?.words ?? "")")
    }
    try expect(
      challenge.count == KeyTalk.nonceByteCount + KeyTalk.proofByteCount,
      "expected a challenge of 64 bytes, got \(challenge.count)")
    var talk = KeyTalk(key)
    talk.add(hello)
    talk.add(Array(challenge[..<KeyTalk.nonceByteCount]))
    try expect(
      Array(challenge[KeyTalk.nonceByteCount...]) == talk.proof(KeyTalk.Step.challenge),
      "expected the proof of the key in the challenge, got another code")
    self.talk = talk
  }

  /// Opens as an honest host, but for `change`, and waits for the answer, whatever it is.
  func open(
    _ change: (inout OpeningRecord) -> Void = { _ in },
    greeting changeGreeting: (inout HostGreeting) -> Void = { _ in }
  ) throws {
    if !line.isEstablished { try connect() }
    var greeting = greeting()
    changeGreeting(&greeting)
    session = greeting.session
    var opening = OpeningRecord(greeting: greeting.bytes)
    change(&opening)
    try sendOpen(opening)
    try wait("an answer to the opening") {
      opened != nil || refusal != nil || line.end != nil
    }
  }

  /// Opens, and throws unless the unit takes it and is ready.
  @discardableResult
  func openChannel(
    _ change: (inout OpeningRecord) -> Void = { _ in },
    greeting changeGreeting: (inout HostGreeting) -> Void = { _ in }
  ) throws -> UnitGreeting {
    try open(change, greeting: changeGreeting)
    guard let answer else {
      throw Finding(
        "expected `opened` in answer to a sound opening, got \(outcome)")
    }
    // A discovery channel is used from its opening on. (IO-11)
    if answer.blockCount > 0 { try wait("`ready`") { isReady || line.end != nil } }
    try expect(line.end == nil, "expected an open channel, got \(line.end ?? "")")
    return answer
  }

  /// How the opening ended, in words.
  var outcome: String {
    if let refusal { return "a refusal: \"\(refusal.words)\"" }
    if opened != nil { return "`opened`" }
    return line.end.map { "the connection's end: \($0)" } ?? "nothing"
  }

  // MARK: Sending

  func send(_ message: MessageRecord) throws {
    var message = message
    message.reposted &+= line.repostedCount
    sentCount &+= 1
    try line.send(message)
  }

  /// Sends a message of the user's.
  func send(kind: UInt16, tag: UInt32 = 0, _ payload: [UInt8]) throws {
    try send(MessageRecord(MessageRecord.Kind.user, kind: kind, tag: tag, body: payload))
  }

  /// Sends bytes that are no message, or not counted as one.
  func sendRaw(_ bytes: [UInt8]) throws {
    sentCount &+= 1
    try line.send(bytes)
  }

  /// A buffer of the unit that is free.
  func freeBuffer() throws -> UInt16 {
    guard let opened, opened.bufferCount > 0 else {
      throw Finding("expected that the unit advertises buffers, got none")
    }
    try wait("a free buffer") { filled.count < Int(opened.bufferCount) }
    return (0..<UInt16(opened.bufferCount)).first { filled[$0] == nil }!
  }

  /// Where the data of a buffer lies. (MS-6)
  func address(of buffer: UInt16) -> UInt64 {
    let opened = opened!
    return opened.bufferAddress + UInt64(buffer) * (4096 + UInt64(opened.bufferByteCount)) + 4096
  }

  func note(filled buffer: UInt16) { filled[buffer, default: 0] += 1 }
  func note(sent count: UInt32) { sentCount &+= count }

  /// A transfer as MS-8 has it: data first, then a message that names the buffer.
  func transfer(kind: UInt16, tag: UInt32, _ payload: [UInt8], data: [UInt8]) throws {
    let buffer = try freeBuffer()
    note(filled: buffer)
    try line.write(data, to: address(of: buffer), key: opened!.bufferKey)
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
    var message = MessageRecord(MessageRecord.Kind.user, kind: kind, tag: tag, body: payload)
    message.reposted = line.repostedCount
    let front = message.bytes
    sentCount &+= 1
    try line.write(
      front + data, to: address(of: buffer) - UInt64(front.count), key: opened!.bufferKey,
      immediate: UInt32(front.count) << 16 | UInt32(buffer))
  }

  // MARK: Receiving

  /// Waits for something; what does not come in time is a finding.
  func wait(_ what: String, _ limit: Duration = .seconds(6), until isDone: () -> Bool) throws {
    let came = try line.wait(limit) {
      try takeArrivals()
      return isDone()
    }
    try expect(
      came, "expected \(what) in \(limit), got \(line.end.map { "the end: \($0)" } ?? "nothing")")
  }

  /// Waits a while, taking what comes.
  func idle(_ time: Duration) throws {
    _ = try line.wait(time) {
      try takeArrivals()
      return false
    }
  }

  /// Throws unless the unit ends the connection.
  func expectEnd(_ limit: Duration = .seconds(3), after what: String) throws {
    try wait("that the unit ends the channel after \(what)", limit) { line.end != nil }
  }

  func takeMessage(_ isWanted: (MessageRecord) -> Bool) -> MessageRecord? {
    messages.firstIndex(where: isWanted).map { messages.remove(at: $0) }
  }

  func takePush(_ tag: UInt32) -> Bool {
    pushes.firstIndex(of: tag).map { pushes.remove(at: $0) } != nil
  }

  private func takeArrivals() throws {
    while let arrival = line.takeArrival() {
      switch arrival {
      case .immediate(let value):
        try expect(
          value >> 31 == 1,
          "expected no transfer into buffers that this host has not, got immediate \(value)")
        pushes.append(value & 0x7fff_ffff)
      case .message(let bytes): try take(bytes)
      }
    }
  }

  private func take(_ bytes: [UInt8]) throws {
    guard let message = MessageRecord(bytes) else {
      throw Finding("MS-1: expected a message of at least 16 bytes, got \(bytes.count)")
    }
    try expect(
      (1...10).contains(message.type) && message.bufferCount == 0,
      "MS-1: expected a known type and no buffer of this host's, got \(message)")
    try expect(
      message.reposted <= sentCount && message.reposted >= peerRepostedCount,
      "MS-5: expected \(peerRepostedCount) to \(sentCount) as reposted, got \(message)")
    peerRepostedCount = message.reposted
    for id in [message.returns.0, message.returns.1] where id != MessageRecord.noBuffer {
      try takeBack(id, message)
    }
    try take(message)
  }

  private func takeBack(_ id: UInt16, _ message: MessageRecord) throws {
    guard let count = filled[id] else {
      throw Finding("MS-6: expected back a buffer that was filled, got \(message)")
    }
    filled[id] = count > 1 ? count - 1 : nil
  }

  private func take(_ message: MessageRecord) throws {
    switch message.type {
    case MessageRecord.Kind.opened: try takeOpened(message)
    case MessageRecord.Kind.refused:
      refusal = (message.kind, message.body.text(at: 0, byteCount: message.body.count))
    case MessageRecord.Kind.challenge: challenge = message.body
    case MessageRecord.Kind.credit: beatCount += 1
    case MessageRecord.Kind.pushed: pushes.append(message.tag)
    case MessageRecord.Kind.bufferReturn:
      let count = Int(message.body.number(UInt64.self, at: 0))
      try expect(
        message.body.count == 8 + 2 * count,
        "MS-6: expected as many buffers as it says, got \(message)")
      for index in 0..<count {
        try takeBack(message.body.number(UInt16.self, at: 8 + 2 * index), message)
      }
    case MessageRecord.Kind.user where opened != nil:
      if message.kind == BlockKind.ready {
        try expect(message.body.isEmpty, "IO-21: expected `ready` without payload, got \(message)")
        isReady = true
      } else {
        messages.append(message)
      }
    case MessageRecord.Kind.close: if leavesOnClose { line.leave() }
    default: throw Finding("MS-2: expected nothing of that type here, got \(message)")
    }
  }

  private func takeOpened(_ message: MessageRecord) throws {
    try expect(opened == nil, "MS-3: expected one answer to the opening, got a second one")
    var body = message.body
    if let talk {
      var talk = talk
      try expect(body.count >= KeyTalk.proofByteCount, "MS-14: expected a proof, got \(message)")
      let proof = Array(body.suffix(KeyTalk.proofByteCount))
      body.removeLast(KeyTalk.proofByteCount)
      talk.add(body)
      try expect(
        proof == talk.proof(KeyTalk.Step.opened),
        "MS-15: expected the key's proof in `opened`, got another")
    }
    guard let opening = OpeningRecord(body) else {
      throw Finding("MS-3: expected at least 64 bytes of `opened`, got \(message)")
    }
    if let fault = opening.fault { throw Finding("MS-3: \(fault)") }
    try expect(
      opening.lowestVersion == opening.highestVersion,
      "MS-3: expected one version in `opened`, got \(opening)")
    opened = opening
    answer = UnitGreeting(opening.greeting)
    try expect(answer != nil, "IO-15: expected an answer of 44 bytes and the name, got \(message)")
  }
}
