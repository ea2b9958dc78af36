import FabricAuthentication
import FabricCompletion
import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@testable import FabricMessaging

private let alice = key("alice", 1)

private func key(_ name: String, _ byte: UInt8) -> PresharedKey {
  do {
    return try PresharedKey(name: name, secret: [UInt8](repeating: byte, count: 32))
  } catch { fatalError("\(error)") }
}

private func options(key: PresharedKey? = nil, keys: [PresharedKey]? = nil) -> ChannelOptions {
  var options = ChannelOptions()
  options.key = key
  options.keys = keys.map { Keyring($0) }
  options.heartbeat = .seconds(60)
  options.greeting = Array("secret volume".utf8)
  return options
}

/// A key's side of what goes before an opening, by hand.
private struct Exchange {
  var transcript: [UInt8] = []
  mutating func note(_ part: some Collection<UInt8>) {
    let count = UInt32(part.count)
    transcript += (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) } + part
  }
  func proof(_ step: UInt8, _ key: PresharedKey = alice) -> [UInt8] {
    key.code(of: Array("ChannelFabric key 1".utf8) + [step] + transcript)
  }
}

private func header(_ type: MessageType) -> [UInt8] {
  [type.rawValue] + [UInt8](repeating: 0, count: 11) + [255, 255, 255, 255]
}

private func hello(_ name: String = "alice", nonce: UInt8 = 7) -> [UInt8] {
  header(.hello) + [1, 0, 1, 0, UInt8(name.utf8.count), 0, 0, 0]
    + [UInt8](repeating: nonce, count: 32) + Array(name.utf8)
}

/// An opening as an honest peer's.
private func opening(_ type: MessageType, greeting: String = "") -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: Opening.fixedByteCount + greeting.utf8.count)
  let opening = Opening(
    receiveCount: 16, messageByteCount: 1024, bufferCount: 0, bufferAddress: 0,
    bufferKey: RemoteKey(rawValue: 0), bufferByteCount: 0, takesImmediate: true,
    heartbeatMilliseconds: 60_000, greeting: Array(greeting.utf8))
  unsafe bytes.withUnsafeMutableBytes { raw in
    let buffer = unsafe WireBuffer(raw)
    MessageHeader(type: type).write(to: buffer)
    _ = opening.write(to: buffer)
  }
  return bytes
}

/// What an unproven initiator does once it has the acceptor's challenge.
struct ProofAttack: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// From the challenge and the opening that is to be proven, the bytes to send.
  let bytes: @Sendable (_ challenge: [UInt8], _ honest: [UInt8], _ proofs: [[UInt8]]) -> [UInt8]

  static let all: [ProofAttack] = [
    ProofAttack(testDescription: "no proof") { _, honest, _ in honest },
    ProofAttack(testDescription: "zeroes") { _, honest, _ in
      honest + [UInt8](repeating: 0, count: 32)
    },
    ProofAttack(testDescription: "the challenge's own proof sent back") { challenge, honest, _ in
      honest + challenge[48...]
    },
    ProofAttack(testDescription: "the challenge's nonce") { challenge, honest, _ in
      honest + challenge[16..<48]
    },
    ProofAttack(testDescription: "the proof of the challenge's direction") { _, honest, proofs in
      honest + proofs[0]
    },
    ProofAttack(testDescription: "the proof of the other direction's opening") {
      _, honest, proofs in
      honest + proofs[2]
    },
    ProofAttack(testDescription: "the right proof cut short") { _, honest, proofs in
      honest + proofs[1].dropLast()
    },
    ProofAttack(testDescription: "the right proof and more") { _, honest, proofs in
      honest + proofs[1] + [0]
    },
    ProofAttack(testDescription: "the right proof of another receive count") { _, honest, proofs in
      changed(honest, at: 20) + proofs[1]
    },
    ProofAttack(testDescription: "the right proof of another buffer key") { _, honest, proofs in
      changed(honest, at: 40) + proofs[1]
    },
    ProofAttack(testDescription: "the right proof of another greeting") { _, honest, proofs in
      changed(honest, at: honest.count - 1) + proofs[1]
    },
    ProofAttack(testDescription: "another key's proof") { _, honest, proofs in honest + proofs[3] },
  ]

  private static func changed(_ bytes: [UInt8], at index: Int) -> [UInt8] {
    var bytes = bytes
    bytes[index] ^= 1
    return bytes
  }
}

@Suite("Messaging: keys", .serialized, .timeLimit(.minutes(1)))
struct KeyChannelTests {
  /// A pair whose server asks for alice's key; its own client has it.
  private func pair(_ told: @escaping (String) -> Void = { _ in }) throws -> Pair {
    try Pair(
      options(key: alice), serverOptions: options(keys: [alice, key("bob", 2)]), refused: told)
  }

  @Test("MS-14, MS-16: who proves the key is in, by its name, and everything goes both ways")
  func proven() throws {
    let pair = try pair()
    let channel = try pair.opened()
    #expect(pair.accepted?.peer.keyName == "alice")
    #expect(channel.peerGreeting == Array("welcome".utf8))
    #expect(pair.accepted?.peerGreeting == Array("secret volume".utf8))
    let source = try pair.client.protectionDomain.allocate(byteCount: 4096, access: [])
    view([1]) { payload in
      let refusals = (0..<1000).compactMap { index -> SendRefusal? in
        let tag = UInt32(index)
        var refusal: SendRefusal?
        repeat {
          refusal =
            index % 2 == 0
            ? channel.send(kind: 1, tag: tag, payload: payload)
            : channel.transfer(kind: 1, tag: tag, payload: payload, data: source.element)
          channel.flush()
          if refusal != nil { pair.service.turn() }
        } while refusal == .noCredit || refusal == .noBuffer
        return refusal
      }
      #expect(refusals.isEmpty)
    }
    try pair.run { pair.serverHandler.messages.count == 1000 }
    #expect(pair.serverHandler.messages.map(\.tag) == (0..<1000).map { UInt32($0) })
    view([2]) { _ = pair.accepted?.send(kind: 1, tag: 9, payload: $0) }
    pair.accepted?.flush()
    try pair.run { pair.clientHandler.messages.count == 1 }
  }

  @Test(
    "MS-16, MS-17: without a key, with another, of an unknown name: words on both sides, no more",
    arguments: [
      (nil, [1], "got one without", "got one without"),
      ("alice", nil, "wants to prove one", "wants to prove one"),
      ("mallory", [1], "compare the keys of both sides", "calls itself \"mallory\""),
      ("alice", [9], "compare the keys of both sides", "calls itself \"alice\""),
    ] as [(String?, [UInt8]?, String, String)])
  func mismatch(_ name: String?, _ keys: [UInt8]?, _ words: String, _ told: String) throws {
    var lines: [String] = []
    var asked = 0
    let pair = try Pair(
      options(key: name.map { key($0, 1) }),
      serverOptions: options(keys: keys?.map { key("alice", $0) }),
      decide: { _ in
        asked += 1
        return nil
      }, refused: { lines.append($0) })
    guard case .failure(.unproven(let reason))? = pair.connected else {
      Issue.record("expected no channel, got \(String(describing: pair.connected))")
      return
    }
    #expect(reason.contains(words))
    try pair.run { lines.count == 1 && pair.server.channelCount == 0 }
    #expect(lines[0].contains(told) && lines[0].contains("process "), "\(lines)")
    #expect(asked == 0)
  }

  /// Says hello, and returns the challenge.
  private func challenge(_ peer: RawPeer, of pair: Pair, _ hello: [UInt8]) throws -> [UInt8] {
    try peer.send(hello)
    try pair.run {
      peer.poll()
      return !peer.received.isEmpty
    }
    return peer.received[0]
  }

  @Test("MS-15: proofs are these, in this order; the same said again is not taken")
  func byHandAndAgain() throws {
    var lines: [String] = []
    let pair = try pair { lines.append($0) }
    _ = try pair.opened()
    let peer = try RawPeer(pair)
    let answer = try challenge(peer, of: pair, hello())
    #expect(answer.count == 80 && answer[0] == MessageType.challenge.rawValue)
    var exchange = Exchange()
    exchange.note(hello()[16...])
    exchange.note(answer[16..<48])
    #expect(Array(answer[48...]) == exchange.proof(1))
    // So far it has cost no buffers and learnt of none.
    let unopened = pair.server.timer.all.filter { !$0.isOpen }
    #expect(unopened.count == 1 && unopened[0].memory.buffers == nil)
    exchange.note(opening(.open)[16...])
    let proven = opening(.open) + exchange.proof(2)
    try peer.send(proven)
    try pair.run {
      peer.poll()
      return peer.received.count == 2
    }
    let opened = peer.received[1]
    #expect(opened[0] == MessageType.opened.rawValue)
    exchange.note(opened[16..<opened.count - 32])
    #expect(Array(opened[(opened.count - 32)...]) == exchange.proof(3))
    peer.close()

    let replay = try RawPeer(pair)
    let second = try challenge(replay, of: pair, hello())
    #expect(second[16..<48] != answer[16..<48])
    try replay.send(proven)
    try pair.run {
      replay.poll()
      return replay.refusal != nil
    }
    #expect(replay.refusal == "the key was not proven: compare the keys of both sides")
    #expect(lines.count == 1)
    replay.close()
  }

  @Test(
    "MS-15, MS-16: a proof that is not this one, of these bytes, gets in nobody",
    arguments: ProofAttack.all)
  func attack(_ attack: ProofAttack) throws {
    let pair = try pair()
    let bystander = try pair.opened()
    let peer = try RawPeer(pair)
    let answer = try challenge(peer, of: pair, hello())
    var exchange = Exchange()
    exchange.note(hello()[16...])
    exchange.note(answer[16..<48])
    let first = exchange.proof(1)
    let honest = opening(.open, greeting: "x")
    exchange.note(honest[16...])
    let bytes = attack.bytes(
      answer, honest,
      [first, exchange.proof(2), exchange.proof(3), exchange.proof(2, key("alice", 9))])
    try peer.send(bytes)
    try pair.run {
      peer.poll()
      return peer.refusal != nil
    }
    // Neither names nor buffers.
    #expect(peer.received.count == 2 && peer.buffers == nil)
    #expect(peer.refusal == "the key was not proven: compare the keys of both sides")
    try pair.run {
      peer.poll(); return peer.isOver && pair.server.channelCount == 1
    }
    #expect(bystander.isOpen)
    peer.close()
  }

  @Test("MS-14, MS-17: malformed hellos and hellos out of place end the channel")
  func badHellos() throws {
    let pair = try pair()
    _ = try pair.opened()
    var bad: [[UInt8]] = [
      Array(hello()[..<55]), hello(""), hello("two words"), hello("bell\u{7}"),
      hello(String(repeating: "n", count: 65)), hello() + [1],
    ]
    for offset in [16, 18, 20, 21, 22] {
      var bytes = hello()
      bytes[offset] = offset == 18 ? 0 : 2
      bad.append(bytes)
    }
    bad.append(hello().dropLast() + [0xff])
    for bytes in bad {
      let peer = try RawPeer(pair)
      try peer.send(bytes)
      try pair.run {
        peer.poll()
        return peer.isOver && pair.server.channelCount == 1
      }
      #expect(peer.refusal != nil && peer.received.count == 1)
      peer.close()
    }
    let twice = try RawPeer(pair)
    _ = try challenge(twice, of: pair, hello())
    try twice.send(hello())
    try pair.run {
      twice.poll()
      return twice.isOver && pair.server.channelCount == 1
    }
    #expect(twice.received.count == 1)
    twice.close()
  }

  /// Connects with alice's key to an acceptor by hand; what it answers to each message comes from
  /// `answer`.
  private func connect(
    _ answer: (_ acceptor: RawAcceptor, _ message: [UInt8]) throws -> Void
  ) throws -> (Result<Channel, ChannelOpenError>?, [[UInt8]]) {
    let service = try CompletionService()
    let endpoint = try ChannelEndpoint(adapter: try SharedMemoryAdapter(), service: service)
    let acceptor = try RawAcceptor()
    try acceptor.postReceives()
    var result: Result<Channel, ChannelOpenError>?
    endpoint.connect(
      to: acceptor.address, options: options(key: alice), handler: Recorder()
    ) { result = $0 }
    var answered = 0
    let end = MonotonicTime.now + .seconds(10)
    while result == nil, MonotonicTime.now < end {
      service.turn()
      acceptor.poll()
      while answered < acceptor.received.count {
        try answer(acceptor, acceptor.received[answered])
        answered += 1
      }
    }
    let received = acceptor.received
    acceptor.close()
    endpoint.close()
    for _ in 0..<16 { service.turn() }
    return (result, received)
  }

  @Test(
    "MS-16: an acceptor that does not prove the key first is told nothing",
    arguments: ["zeroes", "reflected", "another step", "another key", "short", "opened at once"])
  func unprovenAcceptor(_ way: String) throws {
    let nonce = [UInt8](repeating: 3, count: 32)
    let (result, received) = try connect { acceptor, message in
      guard message[0] == MessageType.hello.rawValue else { return }
      var exchange = Exchange()
      exchange.note(message[16...])
      exchange.note(nonce)
      switch way {
      case "zeroes":
        try acceptor.send(header(.challenge) + nonce + [UInt8](repeating: 0, count: 32))
      case "reflected":
        try acceptor.send(header(.challenge) + message[24..<56] + message[24..<56])
      case "another step": try acceptor.send(header(.challenge) + nonce + exchange.proof(2))
      case "another key":
        try acceptor.send(header(.challenge) + nonce + exchange.proof(1, key("alice", 9)))
      case "short": try acceptor.send(header(.challenge) + exchange.proof(1))
      default: try acceptor.send(opening(.opened) + exchange.proof(3))
      }
    }
    guard case .failure(let error)? = result else {
      Issue.record("expected no channel")
      return
    }
    #expect("\(error)".contains(way == "opened at once" ? "out of place" : "which it did not"))
    // The greeting names volumes, the opening buffers.
    for message in received {
      #expect(message[0] != MessageType.open.rawValue)
      #expect(!String(decoding: message, as: UTF8.self).contains("secret volume"))
    }
  }

  @Test("MS-15: what the acceptor opens with is proven, too", arguments: [nil, 20, 40, 63, 70])
  func changedAnswer(_ offset: Int?) throws {
    let nonce = [UInt8](repeating: 3, count: 32)
    var exchange = Exchange()
    let (result, _) = try connect { acceptor, message in
      if message[0] == MessageType.hello.rawValue {
        exchange.note(message[16...])
        exchange.note(nonce)
        try acceptor.send(header(.challenge) + nonce + exchange.proof(1))
      } else if message[0] == MessageType.open.rawValue {
        exchange.note(message[16..<message.count - 32])
        #expect(Array(message[(message.count - 32)...]) == exchange.proof(2))
        let honest = opening(.opened, greeting: "welcome")
        exchange.note(honest[16...])
        var bytes = honest + exchange.proof(3)
        if let offset { bytes[offset] ^= 1 }
        try acceptor.send(bytes)
      }
    }
    switch (offset, result) {
    case (nil, .success): break
    case (.some, .failure(.unproven)): break
    default: Issue.record("offset \(String(describing: offset)): \(String(describing: result))")
    }
  }

  @Test("MS-14: hello, challenge and its proof are these bytes")
  func vectors() throws {
    let vectors = try goldenVectors("messaging.txt")
    let bytes = try #require(vectors["hello message"])
    #expect(hello() == bytes)
    view(bytes) {
      #expect(
        (try? KeyHello($0)) == KeyHello(name: "alice", nonce: [UInt8](repeating: 7, count: 32)))
    }
    var exchange = Exchange()
    exchange.note(bytes[16...])
    exchange.note([UInt8](repeating: 3, count: 32))
    #expect(
      header(.challenge) + [UInt8](repeating: 3, count: 32) + exchange.proof(1)
        == (try #require(vectors["challenge message"])))
  }
}
