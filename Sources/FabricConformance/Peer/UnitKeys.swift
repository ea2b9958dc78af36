import FabricMessaging

/// A unit's side of proving keys, as the judge plays it: honest but where its plan says otherwise. (MS-14 to MS-17)
struct UnitKeys {
  /// What a unit of a case does otherwise.
  struct Plan: Sendable {
    /// Whether `hello` is answered at all.
    var answersHello = true
    /// Changes the proofs, before they are sent.
    var challenge: @Sendable (inout [UInt8]) -> Void = { _ in }
    var opened: @Sendable (inout [UInt8]) -> Void = { _ in }
  }

  private let name: String
  private let plan: Plan
  private var talk: KeyTalk
  /// The host's.
  private(set) var nonce: [UInt8]?

  init(_ key: any ChannelKey, _ plan: Plan) {
    name = key.name
    self.plan = plan
    talk = KeyTalk(key)
  }

  /// Judges `hello`; what lies behind the header of its `challenge`.
  mutating func challenge(answering hello: MessageRecord) throws -> [UInt8] {
    try expect(nonce == nil, "MS-14: expected one `hello`, got a second one")
    let body = hello.body
    try expect(
      body.count > 40 && body.number(UInt16.self, at: 0) == 1
        && body.number(UInt16.self, at: 2) >= 1,
      "MS-14: expected a version range with 1, a nonce and a name, got \(hello)")
    try expect(
      body.count == 40 + Int(body[4]) && body[4] <= 64 && body[5..<8].allSatisfy { $0 == 0 },
      "MS-14: expected a name of 1 to 64 bytes, as many as it says, and zeroes, got \(hello)")
    let said = body.text(at: 40, byteCount: 64)
    try expect(said == name, "MS-14: expected the key's name \"\(name)\", got \"\(said)\"")
    nonce = Array(body[8..<40])
    let own = KeyTalk.nonce()
    talk.add(body)
    talk.add(own)
    var proof = talk.proof(KeyTalk.Step.challenge)
    plan.challenge(&proof)
    return own + proof
  }

  /// Judges the proof that `open` ends with; what lies before it.
  mutating func check(open message: MessageRecord) throws -> [UInt8] {
    try expect(nonce != nil, "MS-17: expected `hello` before `open`, got none: \(message)")
    let count = message.body.count - KeyTalk.proofByteCount
    try expect(
      count >= OpeningRecord.fixedByteCount, "MS-14: expected a proof in `open`, got \(message)")
    talk.add(Array(message.body[..<count]))
    try expect(
      Array(message.body[count...]) == talk.proof(KeyTalk.Step.open),
      "MS-15: expected the key's proof in `open`, got another code")
    return Array(message.body[..<count])
  }

  /// What `opened` ends with.
  mutating func proof(ofOpened body: [UInt8]) -> [UInt8] {
    talk.add(body)
    var proof = talk.proof(KeyTalk.Step.opened)
    plan.opened(&proof)
    return proof
  }
}
