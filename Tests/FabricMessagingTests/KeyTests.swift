import FabricAuthentication
import FabricCompletion
import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@testable import FabricMessaging

@Suite("Messaging: keys", .serialized, .untilStuck)
struct KeyChannelTests {
  /// A pair whose server asks for alice's key; its own client has it.
  private func pair(_ told: @escaping (String) -> Void = { _ in }) throws -> Pair {
    try Pair(
      keyOptions(key: alice), serverOptions: keyOptions(keys: [alice, key("bob", 2)]), refused: told
    )
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
      (nil, [1], "expected a proven key, got none", "expected a proven key, got none"),
      ("alice", nil, "wants to prove one", "wants to prove one"),
      ("mallory", [1], "compare the keys of both sides", "calls itself \"mallory\""),
      ("alice", [9], "compare the keys of both sides", "calls itself \"alice\""),
    ] as [(String?, [UInt8]?, String, String)])
  func mismatch(_ name: String?, _ keys: [UInt8]?, _ words: String, _ told: String) throws {
    var lines: [String] = []
    var asked = 0
    let pair = try Pair(
      keyOptions(key: name.map { key($0, 1) }),
      serverOptions: keyOptions(keys: keys?.map { key("alice", $0) }),
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
    var exchange = HandExchange()
    exchange.note(hello()[16...])
    exchange.note(answer[16..<48])
    #expect(Array(answer[48...]) == exchange.proof(1))
    // So far it has cost no buffers and learnt of none.
    let unopened = pair.server.timer.all.filter { !$0.isOpen }
    #expect(unopened.count == 1 && unopened[0].memory.buffers == nil)
    exchange.note(openingMessage(.open)[16...])
    let proven = openingMessage(.open) + exchange.proof(2)
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
    var exchange = HandExchange()
    exchange.note(hello()[16...])
    exchange.note(answer[16..<48])
    let first = exchange.proof(1)
    let honest = openingMessage(.open, greeting: "x")
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
      to: acceptor.address, options: keyOptions(key: alice), handler: Recorder()
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
      var exchange = HandExchange()
      exchange.note(message[16...])
      exchange.note(nonce)
      switch way {
      case "zeroes":
        try acceptor.send(keyHeader(.challenge) + nonce + [UInt8](repeating: 0, count: 32))
      case "reflected":
        try acceptor.send(keyHeader(.challenge) + message[24..<56] + message[24..<56])
      case "another step": try acceptor.send(keyHeader(.challenge) + nonce + exchange.proof(2))
      case "another key":
        try acceptor.send(keyHeader(.challenge) + nonce + exchange.proof(1, key("alice", 9)))
      case "short": try acceptor.send(keyHeader(.challenge) + exchange.proof(1))
      default: try acceptor.send(openingMessage(.opened) + exchange.proof(3))
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
    var exchange = HandExchange()
    let (result, _) = try connect { acceptor, message in
      if message[0] == MessageType.hello.rawValue {
        exchange.note(message[16...])
        exchange.note(nonce)
        try acceptor.send(keyHeader(.challenge) + nonce + exchange.proof(1))
      } else if message[0] == MessageType.open.rawValue {
        exchange.note(message[16..<message.count - 32])
        #expect(Array(message[(message.count - 32)...]) == exchange.proof(2))
        let honest = openingMessage(.opened, greeting: "welcome")
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
    var exchange = HandExchange()
    exchange.note(bytes[16...])
    exchange.note([UInt8](repeating: 3, count: 32))
    #expect(
      keyHeader(.challenge) + [UInt8](repeating: 3, count: 32) + exchange.proof(1)
        == (try #require(vectors["challenge message"])))
  }
}
