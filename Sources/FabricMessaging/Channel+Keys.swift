import FabricPlatform
import FabricWire

/// What goes before the opening where keys are to be proven. (MS-14 to MS-17)
extension Channel {
  /// The kind of a refusal for want of a key; others have 0. (MS-17)
  static let keyRefusalKind: UInt16 = 1

  /// Queues a message of the opening and notes it; with a step, its proof goes at its end.
  func sendProven(
    _ type: MessageType, _ step: KeyExchange.Step?, body: (WireBuffer) -> Int
  ) {
    queueControl(type) { buffer in
      let count = body(buffer)
      exchange?.note(
        buffer.view.slice(MessageHeader.byteCount, count - MessageHeader.byteCount))
      guard let step, let proof = exchange?.proof(step) else { return count }
      buffer.copy(proof, at: count)
      return count + proof.count
    }
    flush()
  }

  func sendHello(_ key: any ChannelKey) {
    exchange = KeyExchange(key, awaiting: .challenge)
    let hello = KeyHello(name: key.name, nonce: KeyExchange.freshNonce())
    sendProven(.hello, nil) { hello.write(to: $0) }
  }

  /// An initiator names its key. Whether there is one of that name is not to be seen from the
  /// answer.
  func takeHello(_ view: WireView) {
    guard exchange == nil else { return violation("a second hello") }
    guard let keys = options.keys else {
      return turnAway(
        "expected a peer without a key, got one that wants to prove one: leave the key out, or have "
          + "this side started with keys")
    }
    do throws(Opening.Malformed) {
      let hello = try KeyHello(view)
      var exchange = KeyExchange(keys.key(named: hello.name), awaiting: .open)
      exchange.note(view.slice(MessageHeader.byteCount, view.byteCount - MessageHeader.byteCount))
      self.exchange = exchange
      claimedName = hello.name
      let nonce = KeyExchange.freshNonce()
      sendProven(.challenge, .challenge) { buffer in
        buffer.copy(nonce, at: MessageHeader.byteCount)
        return MessageHeader.byteCount + nonce.count
      }
    } catch {
      turnAway(error.words)
    }
  }

  /// The acceptor has proven that it has the key, or not: only then is it told anything.
  func takeChallenge(_ view: WireView) {
    guard exchange?.awaited == .challenge else { return violation("a challenge out of place") }
    guard
      view.byteCount
        == MessageHeader.byteCount + KeyExchange.nonceByteCount + KeyExchange.proofByteCount,
      exchange?.take(view, next: .opened) != nil
    else {
      openFailure = .unproven(Self.peerHasNotTheKey(options.key?.name ?? ""))
      // So that the acceptor's log says it, too.
      return refuse("the key was not proven", kind: Self.keyRefusalKind)
    }
    sendOpening(.open, greeting: options.greeting)
  }

  /// The acceptor's answer to what this side has opened with, without its proof; nil when that was
  /// wrong, which has ended the channel.
  func provenAnswer(_ view: WireView) -> WireView? {
    guard let name = options.key?.name else { return view }
    guard exchange?.awaited == .opened else {
      violation("an opening out of place")
      return nil
    }
    if let answer = exchange?.take(view, next: .opened) { return answer }
    openFailure = .unproven(Self.peerHasNotTheKey(name))
    finish(.failure("the peer did not prove its key"))
    return nil
  }

  /// An initiator's opening without its proof; nil when it was turned away for want of one.
  func provenOpening(_ view: WireView) -> WireView? {
    guard options.keys != nil else { return view }
    guard exchange != nil else {
      turnAway(
        "expected a proven key, got none: name the file of keys that has the one of this "
          + "host (iohost: --key-file)")
      return nil
    }
    if let opening = exchange?.take(view, next: .open) {
      peer.keyName = claimedName
      return opening
    }
    turnAway("the key was not proven: compare the keys of both sides")
    return nil
  }

  /// Refuses a peer before the user was asked, and tells the user. (MS-17)
  func turnAway(_ words: String) {
    if case .acceptor(_, _, let refused)? = role { refused(peer, told(words)) }
    refuse(words, kind: Self.keyRefusalKind)
  }

  /// Words for this side's log: they have the name as well, which is a claim only.
  func told(_ words: String) -> String {
    claimedName.map { "it calls itself \"\($0)\"; \(words)" } ?? words
  }

  private static func peerHasNotTheKey(_ name: String) -> String {
    "expected the peer to prove that it has the key of \"\(name)\", which it did not: compare the "
      + "keys of both sides"
  }
}
