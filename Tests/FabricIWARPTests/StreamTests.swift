import FabricIWARP
import FabricVerbs
import FabricWire
import TestSupport
import Testing

/// The receiving half against streams of which it is known what they carry.
@Suite("iWARP: streams")
struct StreamTests {
  struct Framing: Sendable, CustomTestStringConvertible {
    let markers: Bool
    let checksums: Bool
    var testDescription: String {
      "\(markers ? "markers" : "no markers"), \(checksums ? "checksums" : "no checksums")"
    }
  }

  static let framings = [false, true].flatMap { markers in
    [false, true].map { Framing(markers: markers, checksums: $0) }
  }

  @Test(
    "IW-12, IW-13, IW-14, IW-16, IW-18: messages of all kinds arrive as sent, however their stream is cut",
    arguments: framings)
  func cuts(_ framing: Framing) throws {
    var seen: Set<MessageOpcode> = []
    for seed in 0..<12 as Range<UInt64> {
      var generator = SeededGenerator(seed: seed)
      var sender = StreamSender(framing.markers, framing.checksums)
      for _ in 0..<12 { sender.sendAny(&generator) }
      sender.terminate()
      seen.formUnion(sender.messages.map(\.opcode))
      for pieces in [1...60, 1...3000, sender.stream.count...sender.stream.count] {
        for isDirect in [false, true] {
          var run = StreamRun(sender, takesDirectly: isDirect)
          try run.take(sender.stream, pieces, &generator)
          #expect(
            run.messages == sender.messages,
            "seed \(seed), pieces of \(pieces), direct: \(isDirect), \(framing)")
        }
      }
    }
    #expect(seen == Set(MessageOpcode.allCases))
  }

  @Test("IW-12, IW-13, IW-16: what two Linux ends say to each other is accepted, cut anywhere")
  func capture() throws {
    let payloads = try Capture.rping().payloads
    let ports = Set(payloads.map(\.fromPort))
    #expect(ports.count == 2)
    var generator = SeededGenerator(seed: 1)
    for pieces in [1...1, 1...7, 1 << 16...1 << 16] {
      var runs = Dictionary(
        uniqueKeysWithValues: ports.map { ($0, StreamRun(StreamSender(false, false))) })
      // The request and the reply of the start-up.
      for payload in payloads.dropFirst(2) {
        try runs[payload.fromPort]?.take(payload.bytes, pieces, &generator)
        let other = try #require(ports.first { $0 != payload.fromPort })
        if let message = runs[payload.fromPort]?.messages.last, message.opcode == .readRequest {
          let request = try #require(withView(message.bytes) { ReadRequestHeader($0) })
          runs[other]?.receiver.expectReadResponse(
            key: request.sinkKey, offset: request.sinkOffset,
            byteCount: Int(request.readByteCount))
        }
      }
      let opcodes = Set(runs.values.flatMap { $0.messages.map(\.opcode) })
      #expect(opcodes.isSuperset(of: [.send, .write, .readRequest, .readResponse]))
      let count = runs.values.reduce(0) { $0 + $1.messages.count }
      #expect(count == payloads.count - 2, "each payload of the capture is a message")
    }
  }

  // MARK: Violations

  struct Violation: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let cause: TerminateCause
    let segments: [[UInt8]]
    init(_ words: String, _ cause: TerminateCause, _ segments: [UInt8]...) {
      testDescription = words
      self.cause = cause
      self.segments = segments
    }
  }

  static let violations: [Violation] = {
    func send(
      as opcode: MessageOpcode = .send, queue: UInt32 = 0, _ sequence: UInt32, offset: UInt32 = 0,
      isLast: Bool = true, _ count: Int = 4
    ) -> [UInt8] {
      segment(
        opcode, isLast,
        .untagged(
          queue: queue, sequence: sequence, offset: offset, invalidates: RemoteKey(rawValue: 0)),
        [UInt8](repeating: 1, count: count))
    }
    func response(_ key: UInt32, _ offset: UInt64, isLast: Bool, _ count: Int) -> [UInt8] {
      segment(
        .readResponse, isLast, .tagged(key: RemoteKey(rawValue: key), offset: offset),
        [UInt8](repeating: 1, count: count))
    }
    let request = written(28) {
      ReadRequestHeader(
        sinkKey: RemoteKey(rawValue: 1), sinkOffset: 0, byteCount: 1,
        sourceKey: RemoteKey(rawValue: 2), sourceOffset: 0
      ).write(to: $0)
    }
    func read(_ sequence: UInt32) -> [UInt8] {
      segment(
        .readRequest, true,
        .untagged(
          queue: 1, sequence: sequence, offset: 0, invalidates: RemoteKey(rawValue: 0)), request)
    }
    return [
      Violation("IW-12: a send on queue 2", TerminateCause.DDP.invalidQueue, send(queue: 2, 1)),
      Violation(
        "IW-13: a number twice", TerminateCause.DDP.sequenceOutOfRange, send(1), send(1)),
      Violation(
        "IW-13: immediate data is numbered with sends", TerminateCause.DDP.sequenceOutOfRange,
        send(1), send(as: .immediate, 1, 8)),
      Violation(
        "IW-13: a number within a message", TerminateCause.DDP.sequenceOutOfRange,
        send(1, isLast: false), send(2, offset: 4)),
      Violation(
        "IW-14: a byte twice", TerminateCause.DDP.invalidOffset,
        send(1, isLast: false), send(1, offset: 3)),
      Violation(
        "IW-14: a message that goes on after its end", TerminateCause.DDP.sequenceOutOfRange,
        send(1), send(1, offset: 4)),
      Violation(
        "IW-15: a write beyond the last address", TerminateCause.DDP.offsetWraps,
        segment(
          .write, true, .tagged(key: RemoteKey(rawValue: 1), offset: .max - 2), [1, 2, 3, 4])),
      Violation(
        "IW-16: a response of another key", TerminateCause.DDP.invalidKey,
        response(2, 100, isLast: true, 10)),
      Violation(
        "IW-16: a response to elsewhere", TerminateCause.DDP.invalidKey,
        response(1, 101, isLast: true, 10)),
      Violation(
        "IW-16: a response too long", TerminateCause.DDP.invalidKey,
        response(1, 100, isLast: true, 11)),
      Violation(
        "IW-16: a response that ends early", TerminateCause.DDP.invalidKey,
        response(1, 100, isLast: true, 9)),
      Violation(
        "IW-16: a response that does not end", TerminateCause.DDP.invalidKey,
        response(1, 100, isLast: false, 10)),
      Violation(
        "IW-16: a response to nothing", TerminateCause.DDP.invalidKey,
        response(1, 100, isLast: true, 10), response(1, 100, isLast: true, 10)),
      Violation(
        "IW-17: a read more than agreed", TerminateCause.DDP.noReceive, read(1), read(2), read(3)),
    ]
  }()

  @Test(
    "IW-12 to IW-17: what breaks a rule ends the stream with that rule's cause",
    arguments: violations, framings)
  func violation(_ violation: Violation, _ framing: Framing) throws {
    var sender = StreamSender(framing.markers, framing.checksums)
    sender.receiverOptions.inboundReadDepth = 2
    sender.expectedReads = [(key: RemoteKey(rawValue: 1), offset: 100, byteCount: 10)]
    for segment in violation.segments { sender.append(segment) }
    for pieces in [1...1, 1 << 16...1 << 16] {
      var generator = SeededGenerator(seed: 1)
      var run = StreamRun(sender)
      run.answersReads = false
      #expect(throws: StreamViolation(violation.cause)) {
        try run.take(sender.stream, pieces, &generator)
      }
    }
  }
}
