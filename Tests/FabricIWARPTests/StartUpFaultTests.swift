import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@Suite("iWARP: start-up that fails")
struct StartUpFaultTests {
  // MARK: Bytes

  @Test("IW-5: each wrong byte of a header is refused when it comes, and nothing more is taken")
  func malformed() throws {
    var frame = StartFrame(.request)
    frame.limits = .init(inboundReadDepth: 1, outboundReadDepth: 1)
    let good = frame.bytes
    var bad = (0..<16).map { ($0, good[$0] ^ 0x20, $0) }
    // Revision; too much private data by its high byte and by its low; too little for the depths.
    bad += [(17, 0, 17), (17, 3, 17), (17, 1, 17), (18, 3, 18), (19, 3, 19)]
    for (place, value, shownBy) in bad {
      var bytes = good
      bytes[place] = value
      var responder = StartUp(responder: .init(), deadline: StartUpPair.deadline)
      #expect(take(&responder, Array(bytes[..<shownBy])) == shownBy)
      #expect(responder.nextEffect() == nil, "byte \(place)")
      #expect(take(&responder, [bytes[shownBy]]) == 1)
      let failure = try #require(StartUpPair.end(responder.nextEffect())?.failure)
      #expect(failure.cause == TerminateCause.MPA.startFrame)
      #expect(failure.description.hasPrefix("expected an MPA request, got "))
      #expect(take(&responder, good) == 0)
      #expect(responder.nextEffect() == nil)
    }
    var long = good
    (long[18], long[19]) = (2, 1)
    let failure = try #require(end(ofResponderTaking: long)?.failure)
    #expect(failure.description.contains("513 bytes"))
  }

  @Test("IW-5: what is neither checked nor known in a request does not matter")
  func reserved() throws {
    var bytes = StartFrame(.request).bytes
    // Declined, which only a reply can be, and four bits without a meaning.
    bytes[16] |= 0x2f
    var responder = StartUp(responder: .init(), deadline: StartUpPair.deadline)
    #expect(take(&responder, bytes) == bytes.count)
    #expect(responder.nextEffect() == .requested(privateData: []))
  }

  @Test("IW-5: bytes behind a request that is not answered end the exchange")
  func early() throws {
    var request = StartFrame(.request)
    request.privateData = [1, 2]
    for split in [true, false] {
      var responder = StartUp(responder: .init(), deadline: StartUpPair.deadline)
      if split {
        #expect(take(&responder, request.bytes) == 22)
        #expect(take(&responder, [0]) == 0)
      } else {
        #expect(take(&responder, request.bytes + [0]) == 22)
      }
      #expect(responder.nextEffect() == .requested(privateData: [1, 2]))
      let failure = try #require(StartUpPair.end(responder.nextEffect())?.failure)
      #expect(failure.cause == TerminateCause.MPA.startFrame)
      // Its user answers what is no more.
      responder.accept(privateData: [])
      responder.reject(privateData: [])
      #expect(responder.nextEffect() == nil)
    }
  }

  @Test("IW-5: noise never does more than fail")
  func noise() {
    let seed = UInt64.random(in: 0 ... .max)
    print("start-up: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    for round in 0..<5000 {
      var frame = StartFrame(round % 2 == 0 ? .request : .reply)
      frame.limits = .init(inboundReadDepth: 3, outboundReadDepth: 3)
      frame.privateData = [UInt8](repeating: 1, count: .random(in: 0...508, using: &generator))
      var bytes = frame.bytes
      for _ in 0..<Int.random(in: 1...4, using: &generator) {
        bytes[.random(in: 16..<bytes.count, using: &generator)] = .random(
          in: 0...255, using: &generator)
      }
      var startUp =
        round % 2 == 0
        ? StartUp(responder: .init(), deadline: StartUpPair.deadline)
        : StartUp(initiator: .init(), privateData: [], deadline: StartUpPair.deadline)
      #expect(take(&startUp, bytes) <= 532, "seed \(seed)")
      var effects = 0
      while startUp.nextEffect() != nil { effects += 1 }
      #expect(effects <= 3, "seed \(seed)")
    }
  }

  // MARK: Time and ends

  @Test("IW-5: a request and a reply have a deadline, the user's answer has none")
  func deadline() throws {
    let starts = [
      StartUp(responder: .init(), deadline: StartUpPair.deadline),
      StartUp(initiator: .init(), privateData: [], deadline: StartUpPair.deadline),
    ]
    for (start, kind) in zip(starts, [StartFrame.Kind.request, .reply]) {
      let frame = StartFrame(kind).bytes
      for isByBytes in [false, true] {
        var late = start
        #expect(take(&late, Array(frame[..<7])) == 7)
        late.timePassed(StartUpPair.inTime)
        if isByBytes {
          let taken = withView(frame) { late.receive($0, at: StartUpPair.deadline) }
          #expect(taken == 0)
        } else {
          late.timePassed(StartUpPair.deadline)
        }
        if kind == .reply { _ = late.nextEffect() }
        let failure = try #require(StartUpPair.end(late.nextEffect())?.failure)
        #expect(failure.description.contains("before the deadline, got 7 bytes"))
        #expect(!failure.mayBeOlderPeer)
        late.timePassed(StartUpPair.deadline)
        #expect(late.nextEffect() == nil)
      }
    }
    var patient = starts[0]
    _ = take(&patient, StartFrame(.request).bytes)
    _ = patient.nextEffect()
    patient.timePassed(MonotonicTime(nanoseconds: .max))
    #expect(patient.nextEffect() == nil)
  }

  @Test("IW-5, IW-7: a stream that ends says after how much, and whether an older peer may do so")
  func streamEnd() throws {
    for (count, isEnhanced) in [(0, true), (0, false), (1, true), (19, true)] {
      var options = StartUp.Options()
      options.isEnhanced = isEnhanced
      var initiator = StartUp(
        initiator: options, privateData: [], deadline: StartUpPair.deadline)
      _ = initiator.nextEffect()
      var reply = StartFrame(.reply)
      reply.revision = 1
      _ = take(&initiator, Array(reply.bytes[..<count]))
      initiator.streamEnded()
      initiator.streamEnded()
      let failure = try #require(StartUpPair.end(initiator.nextEffect())?.failure)
      #expect(failure.mayBeOlderPeer == (isEnhanced && count == 0))
      #expect(failure.description.contains("after \(count) bytes"))
      #expect(initiator.nextEffect() == nil)
    }
    var responder = StartUp(responder: .init(), deadline: StartUpPair.deadline)
    _ = take(&responder, StartFrame(.request).bytes)
    _ = responder.nextEffect()
    responder.streamEnded()
    #expect(StartUpPair.end(responder.nextEffect())?.failure?.cause == nil)
    responder.accept(privateData: [])
    #expect(responder.nextEffect() == nil)
  }

  // MARK: Replies that do not fit

  @Test("IW-7: a reply in revision 1 makes a connection of that, one without depths in 2 does not")
  func olderReply() throws {
    var reply = StartFrame(.reply)
    reply.revision = 1
    reply.privateData = [9]
    var options = StartUp.Options()
    options.inboundReadDepth = 3
    options.outboundReadDepth = 4
    let agreement = try #require(outcome(options, reply).end?.agreement)
    #expect(!agreement.isEnhanced && agreement.readyToReceive == nil)
    #expect(agreement.inboundReadDepth == 3 && agreement.outboundReadDepth == 4)
    reply.revision = 2
    #expect(outcome(options, reply).end?.failure?.cause == TerminateCause.MPA.startFrame)
    options.isEnhanced = false
    #expect(outcome(options, reply).end?.failure?.cause == TerminateCause.MPA.startFrame)
    reply.isRejected = true
    options.isEnhanced = true
    #expect(outcome(options, reply).end == .rejected([9]))
  }

  @Test("IW-8: a reply that wants more reads than were offered is answered by a terminate message")
  func tooManyReads() throws {
    var options = StartUp.Options()
    options.inboundReadDepth = 4
    for (wanted, isGood) in [
      (UInt16(0), true), (4, true), (5, false), (16382, false), (16383, true),
    ] {
      var reply = StartFrame(.reply)
      reply.limits = .init(inboundReadDepth: 0, outboundReadDepth: wanted)
      let (end, sent) = outcome(options, reply)
      if isGood {
        #expect(end?.agreement?.inboundReadDepth == min(4, wanted))
        #expect(sent == nil)
      } else {
        #expect(end?.failure?.cause == TerminateCause.MPA.tooFewInboundReads)
        #expect(try terminate(sent, markers: false) == TerminateCause.MPA.tooFewInboundReads)
      }
    }
  }

  @Test("IW-9: a reply that takes nothing that was offered is answered by a terminate message")
  func nothingOffered() throws {
    var options = StartUp.Options()
    options.isPeerToPeer = true
    options.outboundReadDepth = 1
    options.wantsChecksums = true
    typealias Kinds = StartFrame.ReadyToReceive
    let none = TerminateCause.MPA.noReadyToReceive
    let cases: [(isPeerToPeer: Bool, Kinds, depth: UInt16, offered: Kinds, TerminateCause?)] = [
      (true, .emptyWrite, 0, [.emptyWrite, .emptyRead], nil),
      (true, .emptyRead, 1, [.emptyWrite, .emptyRead], nil),
      (true, .emptyRead, 0, .emptyRead, TerminateCause.MPA.tooFewInboundReads),
      (true, .emptyFPDU, 1, [.emptyWrite, .emptyRead], none),
      (true, [], 1, [.emptyWrite, .emptyRead], none),
      (false, .emptyWrite, 1, .emptyWrite, none),
    ]
    for (isPeerToPeer, kinds, depth, offered, cause) in cases {
      options.readyToReceive = offered
      var reply = StartFrame(.reply)
      reply.wantsMarkers = true
      reply.limits = .init(inboundReadDepth: depth, outboundReadDepth: 0)
      reply.limits?.isPeerToPeer = isPeerToPeer
      reply.limits?.readyToReceive = kinds
      let (end, sent) = outcome(options, reply)
      guard let cause else {
        #expect(end?.agreement?.readyToReceive == kinds)
        continue
      }
      #expect(end?.failure?.cause == cause)
      #expect(try terminate(sent, markers: true) == cause)
    }
    var older = StartFrame(.reply)
    older.revision = 1
    let (end, sent) = outcome(options, older)
    #expect(end?.failure?.cause == none)
    #expect(try terminate(sent, markers: false) == none)
  }

  @Test("IW-9: words say which frames each side knows")
  func words() throws {
    var initiator = StartUp.Options()
    initiator.isPeerToPeer = true
    initiator.readyToReceive = [.emptyWrite, .emptyFPDU]
    var responder = StartUp.Options()
    responder.readyToReceive = []
    var pair = StartUpPair(initiator, responder)
    pair.run()
    let failure = try #require(pair.responderEnd?.failure)
    #expect(
      failure.description.hasSuffix(
        "the initiator sends empty FPDUs, empty writes, the responder takes none"))
  }

  // MARK: Misuse

  @Test("IW-5, IW-9: what the caller must not ask for traps")
  func misuse() async {
    await #expect(processExitsWith: .failure) {
      _ = StartUp(
        initiator: .init(), privateData: [UInt8](repeating: 0, count: 509),
        deadline: MonotonicTime(nanoseconds: 1))
    }
    await #expect(processExitsWith: .failure) {
      var options = StartUp.Options()
      options.isPeerToPeer = true
      options.readyToReceive = .emptyRead
      _ = StartUp(initiator: options, privateData: [], deadline: MonotonicTime(nanoseconds: 1))
    }
    await #expect(processExitsWith: .failure) {
      var options = StartUp.Options()
      options.isPeerToPeer = true
      options.isEnhanced = false
      _ = StartUp(initiator: options, privateData: [], deadline: MonotonicTime(nanoseconds: 1))
    }
    await #expect(processExitsWith: .failure) {
      var responder = StartUp(responder: .init(), deadline: MonotonicTime(nanoseconds: 1))
      responder.accept(privateData: [])
    }
  }

  // MARK: Tools

  private func take(_ startUp: inout StartUp, _ bytes: [UInt8]) -> Int {
    withView(bytes) { startUp.receive($0, at: StartUpPair.inTime) }
  }

  private func end(ofResponderTaking bytes: [UInt8]) -> StartUpPair.End? {
    var responder = StartUp(responder: .init(), deadline: StartUpPair.deadline)
    _ = take(&responder, bytes)
    return StartUpPair.end(responder.nextEffect())
  }

  /// What an initiator makes of `reply`, and what it sends then.
  private func outcome(
    _ options: StartUp.Options, _ reply: StartFrame
  ) -> (end: StartUpPair.End?, sent: [UInt8]?) {
    var initiator = StartUp(initiator: options, privateData: [], deadline: StartUpPair.deadline)
    _ = initiator.nextEffect()
    _ = take(&initiator, reply.bytes)
    let effect = initiator.nextEffect()
    guard case .send(let bytes) = effect else { return (StartUpPair.end(effect), nil) }
    return (StartUpPair.end(initiator.nextEffect()), bytes)
  }

  /// The cause in an FPDU with a terminate message.
  private func terminate(_ bytes: [UInt8]?, markers: Bool) throws -> TerminateCause? {
    var reader = FPDUReader(markers: markers, checksums: true)
    var segment: [UInt8] = []
    let sent = try #require(bytes)
    let taken = try withView(sent) { try reader.take(from: $0) { segment = $0.array } }
    #expect(taken == sent.count)
    let header = try withView(segment) { try SegmentHeader($0) }
    #expect(header.opcode == .terminate && header.isLast)
    #expect(
      header.place
        == .untagged(queue: 2, sequence: 1, offset: 0, invalidates: .init(rawValue: 0)))
    return withView(Array(segment[header.byteCount...])) { TerminateMessage($0)?.cause }
  }
}
