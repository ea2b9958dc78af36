import FabricMessaging

/// MS-14 to MS-17: pre-shared keys. They want a unit that asks for one, and the judge to have it.
extension ConformanceCase {
  static let keys: [ConformanceCase] = [
    ConformanceCase(
      "key-proven", ["MS-14", "MS-15"], "Who proves the key gets a proof, and an open channel."
    ) { bench in
      try bench.needsKey()
      _ = try bench.openHost()
    },
    ConformanceCase(
      "key-missing", ["MS-14", "MS-17"], "An opening without a key is refused, with kind 1."
    ) { bench in
      try bench.needsKey()
      let host = try bench.host()
      try host.connect()
      try host.send(
        MessageRecord(
          MessageRecord.Kind.open, body: OpeningRecord(greeting: host.greeting().bytes).bytes))
      try host.expectKeyRefusal(of: "an opening without a key")
    },
    ConformanceCase(
      "key-wrong-proof", ["MS-15", "MS-16", "MS-17"], "A wrong proof is refused, with kind 1."
    ) { bench in
      try bench.needsKey()
      let host = try bench.host()
      try host.connect()
      let key = bench.target.key!
      try host.send(
        MessageRecord(
          MessageRecord.Kind.hello, body: KeyTalk.hello(name: key.name, nonce: KeyTalk.nonce())))
      try host.wait("a challenge") { host.challenge != nil }
      let opening = OpeningRecord(greeting: host.greeting().bytes)
      try host.send(
        MessageRecord(
          MessageRecord.Kind.open, body: opening.bytes + [UInt8](repeating: 0x5A, count: 32)))
      try host.expectKeyRefusal(of: "a wrong proof")
    },
    ConformanceCase(
      "key-unknown-name", ["MS-16", "MS-17"],
      "A name without a key is answered as one with a key: a challenge comes."
    ) { bench in
      try bench.needsKey()
      let host = try bench.host()
      try host.connect()
      try host.send(
        MessageRecord(
          MessageRecord.Kind.hello,
          body: KeyTalk.hello(name: "nobody-has-this", nonce: KeyTalk.nonce())))
      try host.wait("a challenge for an unknown name") { host.challenge != nil }
      try expect(host.challenge!.count == 64, "expected 64 bytes, got \(host.challenge!.count)")
    },
    ConformanceCase(
      "key-fresh-nonces", ["MS-16"], "Each challenge has a nonce of its own."
    ) { bench in
      try bench.needsKey()
      var nonces: Set<[UInt8]> = []
      let nonce = KeyTalk.nonce()
      for _ in 0..<4 {
        let host = try bench.host()
        try host.connect()
        try host.send(
          MessageRecord(
            MessageRecord.Kind.hello,
            body: KeyTalk.hello(name: bench.target.key!.name, nonce: nonce)))
        try host.wait("a challenge") { host.challenge != nil }
        nonces.insert(Array(host.challenge!.prefix(32)))
      }
      try expect(nonces.count == 4, "expected four nonces, got \(nonces.count)")
    },
    ConformanceCase(
      "key-not-asked", ["MS-14"], "Where no keys are, `hello` opens nothing."
    ) { bench in
      try bench.needsNoKey()
      let host = try bench.host()
      try host.connect()
      try host.send(
        MessageRecord(
          MessageRecord.Kind.hello, body: KeyTalk.hello(name: "anyone", nonce: KeyTalk.nonce())))
      try host.wait("a refusal or the end") { host.refusal != nil || host.line.end != nil }
      try expect(host.challenge == nil, "expected no challenge from a unit without keys")
    },
    ConformanceCase(
      "key-hello-malformed", ["MS-14", "MS-12"], "A `hello` that breaks its form opens nothing."
    ) { bench in
      for change in 0..<3 {
        let host = try bench.host()
        try host.connect()
        var body = KeyTalk.hello(name: "name", nonce: KeyTalk.nonce())
        switch change {
        case 0: body.removeLast(20)
        case 1: body[4] = 200
        default: body[body.count - 1] = 0x0A
        }
        try host.send(MessageRecord(MessageRecord.Kind.hello, body: body))
        try host.wait("a refusal or the end") { host.refusal != nil || host.line.end != nil }
        try expect(host.challenge == nil, "expected no challenge for a malformed hello")
      }
    },
  ]
}

extension UnitBench {
  func needsKey() throws {
    if target.key == nil { throw NotApplicable("no key was given: --key-file FILE") }
  }
}

extension HostEnd {
  func expectKeyRefusal(of what: String) throws {
    try wait("an answer to \(what)") { opened != nil || refusal != nil || line.end != nil }
    try expectRefusal(of: what)
    try expect(refusal!.kind == 1, "MS-17: expected a refusal of kind 1, got \(refusal!.kind)")
  }
}
