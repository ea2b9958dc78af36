import FabricMessaging
import FabricPlatform
import FabricVerbs

/// The judge as a host of the unit under judgement: honest but where a case asks for something else.
final class HostEnd: ChannelEnd {
  private let target: UnitTarget
  private var talk: KeyTalk?

  private(set) var answer: UnitGreeting?
  /// Why the unit refused, and the kind of the message.
  private(set) var refusal: (kind: UInt16, words: String)?
  private(set) var challenge: [UInt8]?
  private(set) var isReady = false
  /// Messages of the user's that were not taken yet.
  private(set) var messages: [MessageRecord] = []
  private(set) var pushes: [UInt32] = []
  /// What it said of itself.
  private var takesImmediates = false
  var session: (high: UInt64, low: UInt64)
  var opened: OpeningRecord? { peer }
  private var saidReceiveCount = 64
  override var ownReceiveCount: Int { saidReceiveCount }
  /// Commands that have not ended, by their messages' tags.
  private var underWay: [UInt32: [CommandRecord?]] = [:]
  private static let unitsKinds: Set = [
    BlockKind.response, BlockKind.ready, BlockKind.volumeEntry, BlockKind.fenced,
    BlockKind.pathState, BlockKind.addressEntry, BlockKind.controlAnswer,
  ]

  init(_ target: UnitTarget, _ line: Line) {
    self.target = target
    session = (UInt64.random(in: 1 ... .max), UInt64.random(in: 0 ... .max))
    super.init(line)
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
    var greeting = HostGreeting(
      volume: target.volume, host: target.key?.name ?? target.host, session: session)
    greeting.access = target.mayWrite ? 1 : 0
    return greeting
  }

  /// Says `open`, behind what keys ask for.
  func sendOpen(_ opening: OpeningRecord) throws {
    var body = opening.bytes
    saidReceiveCount = Int(opening.receiveCount)
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
    opening.flags = line.adapter.capabilities.hasImmediateWrite ? 1 : 0
    change(&opening)
    takesImmediates = opening.flags & 1 == 1
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

  // MARK: Receiving

  func takeMessage(_ isWanted: (MessageRecord) -> Bool) -> MessageRecord? {
    messages.firstIndex(where: isWanted).map { messages.remove(at: $0) }
  }

  func takePush(_ tag: UInt32) -> Bool {
    pushes.firstIndex(of: tag).map { pushes.remove(at: $0) } != nil
  }

  override func take(immediate: UInt32) throws {
    try expect(
      takesImmediates,
      "MS-3: expected no immediate at a host that understands none, got \(immediate)")
    try expect(
      immediate >> 31 == 1,
      "expected no transfer into buffers that this host has not, got immediate \(immediate)")
    try take(push: immediate & 0x7fff_ffff)
  }

  override func take(_ message: MessageRecord) throws {
    switch message.type {
    case MessageRecord.Kind.opened: try takeOpened(message)
    case MessageRecord.Kind.refused:
      refusal = (message.kind, message.body.text(at: 0, byteCount: message.body.count))
    case MessageRecord.Kind.challenge: challenge = message.body
    case MessageRecord.Kind.pushed: try take(push: message.tag)
    case MessageRecord.Kind.user where peer != nil:
      try expect(
        Self.unitsKinds.contains(message.kind),
        "IO-20: expected a message that units send, got \(message)")
      if message.kind == BlockKind.response { try takeEnd(message) }
      if message.kind == BlockKind.ready {
        try expect(message.body.isEmpty, "IO-21: expected `ready` without payload, got \(message)")
        try expect(
          answer?.blockCount != 0, "IO-11: expected no `ready` on a discovery channel, got one")
        isReady = true
      } else {
        messages.append(message)
      }
    case MessageRecord.Kind.credit, MessageRecord.Kind.bufferReturn, MessageRecord.Kind.close: break
    default: throw Finding("MS-2: expected nothing of that type here, got \(message)")
    }
  }

  override func noteSent(kind: UInt16, tag: UInt32, _ payload: [UInt8]) {
    if kind == BlockKind.command { underWay[tag, default: []].append(CommandRecord(payload)) }
  }

  private func take(push tag: UInt32) throws {
    try expect(
      underWay.removeValue(forKey: tag) != nil,
      "IO-22: expected the end of a command that is under way, got one of tag \(tag)")
    pushes.append(tag)
  }

  /// A command ends once, and says how many bytes it moved. (IO-22, IO-34)
  private func takeEnd(_ message: MessageRecord) throws {
    guard var commands = underWay[message.tag] else {
      throw Finding("IO-22: expected the end of a command that is under way, got \(message)")
    }
    let command = commands.removeFirst()
    underWay[message.tag] = commands.isEmpty ? nil : commands
    guard let response = ResponseRecord(message.body) else {
      throw Finding("IO-34: expected 16 bytes of response, got \(message)")
    }
    guard let command, response.status == BlockStatus.success else { return }
    try expect(
      response.transferredByteCount == command.dataByteCount,
      "IO-34: expected \(command.dataByteCount) bytes transferred, got \(response)")
  }

  private func takeOpened(_ message: MessageRecord) throws {
    try expect(peer == nil, "MS-3: expected one answer to the opening, got a second one")
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
    peer = opening
    answer = UnitGreeting(opening.greeting)
    guard let answer else {
      throw Finding("IO-15: expected an answer of 44 bytes and the name, got \(message)")
    }
    // On a discovery channel both are 0.
    guard answer.blockByteCount > 0 || answer.blockCount > 0 else { return }
    let isPowerOfTwo = answer.blockByteCount & (answer.blockByteCount &- 1) == 0
    try expect(
      answer.blockByteCount >= 512 && isPowerOfTwo
        && answer.maximumTransferByteCount >= answer.blockByteCount
        && !answer.blockCount.multipliedReportingOverflow(by: UInt64(answer.blockByteCount))
          .overflow,
      "IO-15: expected blocks of a power of two of 512 bytes and more, and a transfer of one at least, got \(answer)"
    )
    if answer.blockByteCount > 4096 {
      throw NotApplicable("the judge uses blocks of at most 4096 bytes, the volume's have more")
    }
  }
}
