import FabricCompletion
import FabricPlatform
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@testable import FabricMessaging

private func golden(_ name: String) throws -> [UInt8] {
  try #require(try goldenVectors("messaging.txt")[name])
}

/// What `encode` writes to `byteCount` bytes of noise.
private func encoded(_ byteCount: Int, _ encode: (WireBuffer) -> Void) -> [UInt8] {
  var bytes = [UInt8](repeating: 0xA5, count: byteCount)
  unsafe bytes.withUnsafeMutableBytes { raw in encode(unsafe WireBuffer(raw)) }
  return bytes
}

@Suite("Messaging: bytes")
struct ProtocolTests {
  let opening = Opening(
    receiveCount: 256, messageByteCount: 256, bufferCount: 32, bufferAddress: 0x7f00_1234_5000,
    bufferKey: RemoteKey(rawValue: 0xdead_beef), bufferByteCount: 131072, takesImmediate: true,
    heartbeatMilliseconds: 2000, greeting: Array("hello".utf8))

  @Test("MS-1, MS-2: a header is these bytes")
  func header() throws {
    var header = MessageHeader(type: .user, kind: 0x0203, tag: 0x0405_0607)
    header.bufferCount = 1
    header.reposted = 0x0809_0a0b
    header.firstReturn = 12
    let bytes = try golden("header")
    #expect(encoded(16) { header.write(to: $0) } == bytes)
    view(bytes) { #expect(MessageHeader($0) == header) }
  }

  @Test("MS-1, MS-2: short headers, unknown types and two buffers are refused")
  func badHeaders() throws {
    var bytes = try golden("header")
    view(Array(bytes[..<15])) { #expect(MessageHeader($0) == nil) }
    for type in [0, 11, 255] as [UInt8] {
      bytes[0] = type
      view(bytes) { #expect(MessageHeader($0) == nil) }
    }
    bytes[0] = 8
    view(bytes) { #expect(MessageHeader($0)?.type == .close) }
    bytes[1] = 2
    view(bytes) { #expect(MessageHeader($0) == nil) }
  }

  @Test("MS-3: an opening is these bytes")
  func openMessage() throws {
    let bytes = try golden("open message")
    let written = encoded(bytes.count) {
      MessageHeader(type: .open).write(to: $0)
      #expect(opening.write(to: $0) == bytes.count)
    }
    #expect(written == bytes)
    view(bytes) { view in
      #expect((try? Opening(view)) == opening)
    }
  }

  @Test("MS-4: openings out of range are refused")
  func badOpenings() throws {
    let bytes = try golden("open message")
    // Versions, receives, bytes of a receive, buffers, bytes of a buffer, greeting.
    for (offset, value) in [(16, 2), (18, 0), (22, 1), (25, 0), (27, 1), (30, 1), (47, 2), (52, 6)]
    {
      var bad = bytes
      bad[offset] = UInt8(value)
      view(bad) { view in
        #expect(throws: Opening.Malformed.self, "offset \(offset)") { try Opening(view) }
      }
    }
    view(Array(bytes[..<63])) { view in
      #expect(throws: Opening.Malformed.self) { try Opening(view) }
    }
  }

  @Test("MS-7, MS-9: immediates are these bytes")
  func immediates() throws {
    let values: [(String, Immediate)] = [
      ("transfer immediate", .buffer(id: 3, headerByteCount: 80)),
      ("push immediate", .pushed(tag: 7)),
    ]
    for (name, immediate) in values {
      let bytes = try golden(name)
      #expect(encoded(4) { $0.set(immediate.value, at: 0) } == bytes)
      view(bytes) { #expect(Immediate($0.uint32(at: 0)) == immediate) }
    }
  }

  @Test("MS-5: a repeated counter does no harm, one beyond the window is refused")
  func credit() {
    let credit = SendCredit(initial: 8)
    for _ in 0..<6 { credit.consume() }
    #expect(!credit.hasUserCredit && credit.hasAnyCredit)
    let taken = ([4, 4, 2, 7] as [UInt32]).map { credit.update($0) }
    #expect(taken == [true, true, true, false])
    #expect(credit.available == 6)
  }

  @Test("MS-6, MS-12: a buffer comes back once, and only from who has it")
  func buffers() {
    let peers = PeerBuffers(count: 2, address: 0, byteCount: 4096)
    let taken = peers.take()
    #expect(taken == 0 && peers.dataAddress(1) == 8192 + 4096)
    let back = [1, 2, 0, 0].map { peers.comeBack($0) }
    #expect(back == [false, false, true, false])
    let own = OwnBuffers(count: 2)
    let held = [1, 1, 2].map { own.hold($0) }
    #expect(held == [true, false, false])
    // Given back, but the peer cannot know yet.
    own.giveBack(1)
    let early = own.hold(1)
    let told = own.takeUntold()
    let late = own.hold(1)
    #expect(!early && told == 1 && late)
  }
}

@Suite("Messaging: silence and violations", .serialized)
struct ViolationTests {
  @Test("MS-12: a misplaced message closes this channel and names itself")
  func misplaced() throws {
    let pair = try Pair(options(.automatic))
    let channel = try pair.opened()
    let isQueued = channel.queueControl(.open)
    #expect(isQueued)
    channel.flush()
    try pair.run { pair.serverHandler.closed != nil && pair.clientHandler.closed != nil }
    guard case .failure(let words)? = pair.serverHandler.closed else {
      Issue.record("expected a failure, got \(String(describing: pair.serverHandler.closed))")
      return
    }
    #expect(words.contains("open message out of place"))
  }

  @Test("MS-11: idle channels beat and stay; a silent peer counts as dead")
  func silence() throws {
    var quick = options(.automatic)
    quick.heartbeat = .milliseconds(20)
    let beating = try Pair(quick)
    _ = try beating.opened()
    beating.service.run(until: { false }, deadline: .now + .milliseconds(400))
    #expect(beating.clientHandler.closed == nil && beating.serverHandler.closed == nil)

    let deaf = try Pair(quick)
    let handler = Recorder()
    deaf.nextHandler = handler
    let peer = try RawPeer(deaf)
    try peer.open()
    try deaf.run {
      peer.poll()
      return handler.closed != nil
    }
    guard case .peerDied? = handler.closed else {
      Issue.record("expected a death, got \(String(describing: handler.closed))")
      return
    }
    peer.close()
  }

  @Test("MS-11: the shorter interval of both sides holds, a peer's from 100 ms on")
  func negotiated() throws {
    var patient = options(.automatic)
    patient.heartbeat = .seconds(3600)
    var quick = patient
    quick.heartbeat = .milliseconds(200)
    let pair = try Pair(quick, serverOptions: patient)
    let channel = try pair.opened()
    let accepted = try #require(pair.accepted)
    #expect(channel.interval == quick.heartbeat && accepted.interval == quick.heartbeat)
    // Six intervals without a beat would end it.
    pair.service.run(until: { false }, deadline: .now + .milliseconds(1600))
    #expect(pair.clientHandler.closed == nil && pair.serverHandler.closed == nil)

    quick.heartbeat = .milliseconds(1)
    let hasty = try Pair(quick, serverOptions: patient)
    _ = try hasty.opened()
    #expect(hasty.accepted?.interval == .milliseconds(100))

    let untold = try Pair(patient)
    _ = try untold.opened()
    let first = untold.accepted
    let peer = try RawPeer(untold)
    try peer.open { $0.heartbeatMilliseconds = 0 }
    try untold.run {
      peer.poll()
      return untold.accepted !== first
    }
    #expect(untold.accepted?.interval == patient.heartbeat)
    peer.close()
  }
}
