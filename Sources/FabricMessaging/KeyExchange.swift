import FabricWire

/// What the two sides of a channel prove to each other, and over which bytes; no I/O.
/// (MS-14 to MS-16)
struct KeyExchange {
  /// What a proof stands behind. Its number is part of what is proven, so that no proof can stand in
  /// for another, or for one of the other direction.
  enum Step: UInt8 {
    /// The acceptor's, in `challenge`.
    case challenge = 1
    /// The initiator's, in `open`.
    case open = 2
    /// The acceptor's, in `opened`.
    case opened = 3
  }

  static let nonceByteCount = 32
  static let proofByteCount = 32
  private static let label = Array("ChannelFabric key 1".utf8)

  let key: any ChannelKey
  /// The proof that this side waits for.
  private(set) var awaited: Step
  /// What both sides have said so far, each part behind its length.
  private var transcript: [UInt8] = []

  init(_ key: any ChannelKey, awaiting step: Step) {
    self.key = key
    awaited = step
  }

  /// Notes what was said, by either side.
  mutating func note(_ part: WireView) {
    let count = UInt32(part.byteCount)
    transcript += (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) }
    transcript += part.array
  }

  private func statement(_ step: Step) -> [UInt8] { Self.label + [step.rawValue] + transcript }

  /// This side's proof, over all that was noted. (MS-15)
  func proof(_ step: Step) -> [UInt8] { key.code(of: statement(step)) }

  /// Notes the body of the message waited for, and judges the proof at its end.
  ///
  /// - Returns: the message without the proof; nil when that is wrong, or there is none.
  mutating func take(_ message: WireView, next: Step) -> WireView? {
    let count = message.byteCount - Self.proofByteCount
    guard count >= MessageHeader.byteCount else { return nil }
    note(message.slice(MessageHeader.byteCount, count - MessageHeader.byteCount))
    guard key.isCode(message.slice(count, Self.proofByteCount).array, of: statement(awaited))
    else { return nil }
    awaited = next
    return message.slice(0, count)
  }

  /// 32 bytes that nobody has seen before.
  static func freshNonce() -> [UInt8] {
    var generator = SystemRandomNumberGenerator()
    return (0..<nonceByteCount).map { _ in UInt8.random(in: 0 ... .max, using: &generator) }
  }
}

/// The body of `hello`: the name of the initiator's key. (MS-14)
///
/// | Offset | Field |
/// |---|---|
/// | 16 | lowest and highest version u16 each |
/// | 20 | bytes of the name u8, 0 u8, 0 u16 |
/// | 24 | nonce, 32 bytes |
/// | 56 | name |
struct KeyHello: Equatable {
  static let fixedByteCount = 56

  var versions = Opening.currentVersion...Opening.currentVersion
  var name: String
  var nonce: [UInt8]

  init(name: String, nonce: [UInt8]) {
    self.name = name
    self.nonce = nonce
  }

  func write(to buffer: WireBuffer) -> Int {
    let name = Array(name.utf8)
    buffer.set(versions.lowerBound, at: 16)
    buffer.set(versions.upperBound, at: 18)
    buffer.set(UInt32(name.count), at: 20)
    buffer.copy(nonce, at: 24)
    buffer.copy(name, at: Self.fixedByteCount)
    return Self.fixedByteCount + name.count
  }

  /// Reads what a peer sent; nothing about it is trusted.
  init(_ view: WireView) throws(Opening.Malformed) {
    guard view.byteCount >= Self.fixedByteCount else {
      throw Opening.Malformed(
        words: "expected at least \(Self.fixedByteCount) bytes of hello, got \(view.byteCount)")
    }
    try Opening.checkVersions(view.uint16(at: 16), view.uint16(at: 18))
    let count = Int(view.uint8(at: 20))
    guard view.uint32(at: 20) == UInt32(count), view.byteCount == Self.fixedByteCount + count,
      let name = String(
        validating: view.slice(Self.fixedByteCount, count).array, as: UTF8.self),
      ChannelPeer.isKeyName(name)
    else {
      throw Opening.Malformed(
        words: "expected a key's name of 1 to 64 bytes without white space in the peer's hello")
    }
    self.init(name: name, nonce: view.slice(24, KeyExchange.nonceByteCount).array)
  }
}
