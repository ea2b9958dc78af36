import FabricIWARP
import FabricPlatform
import FabricWire
import TestSupport
import Testing

@Suite("iWARP: start-up")
struct StartUpTests {
  /// Depths that differ in what they come to: none, few, many, left open.
  static let depths: [UInt16] = [0, 1, 4, 16383]

  @Test("IW-5: the exchange of two Linux ends is accepted, and made again byte by byte")
  func capture() throws {
    let payloads = try Capture.rping().payloads.map(\.bytes)
    var options = StartUp.Options()
    options.wantsChecksums = false
    options.inboundReadDepth = 1
    options.outboundReadDepth = 1
    var initiator = StartUp(
      initiator: options, privateData: [], deadline: StartUpPair.deadline)
    #expect(initiator.nextEffect() == .send(payloads[0]))
    var responder = StartUp(responder: options, deadline: StartUpPair.deadline)
    #expect(take(&responder, payloads[0]) == payloads[0].count)
    #expect(responder.nextEffect() == .requested(privateData: []))
    responder.accept(privateData: [])
    #expect(responder.nextEffect() == .send(payloads[1]))
    // What follows the reply in the stream is left alone.
    #expect(take(&initiator, payloads[1] + payloads[2]) == payloads[1].count)
    #expect(take(&responder, payloads[2]) == 0)
    let ends = [initiator.nextEffect(), responder.nextEffect()].map(StartUpPair.end)
    for (end, isInitiator) in zip(ends, [true, false]) {
      let agreement = try #require(end?.agreement)
      #expect(agreement.isInitiator == isInitiator && agreement.isEnhanced)
      #expect(!agreement.usesChecksums && !agreement.sendsMarkers && !agreement.receivesMarkers)
      #expect(agreement.inboundReadDepth == 1 && agreement.outboundReadDepth == 1)
      #expect(agreement.readyToReceive == nil)
    }
  }

  @Test("IW-5: private data goes both ways, in pieces of any size, with acceptance and rejection")
  func privateData() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("start-up: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    for isEnhanced in [false, true] {
      var options = StartUp.Options()
      options.isEnhanced = isEnhanced
      let most = isEnhanced ? 508 : 512
      #expect(options.maximumPrivateDataByteCount == most)
      for count in [0, 1, 100, most] {
        let asked = (0..<count).map { UInt8(truncatingIfNeeded: $0) }
        let answered = [UInt8](asked.reversed())
        for piece in [{ $0 }, { _ in 1 }, { Int.random(in: 1...$0, using: &generator) }] {
          var pair = StartUpPair(options, options, asked)
          pair.run(piece: piece) {
            #expect($0.maximumAnswerByteCount == most)
            $0.accept(privateData: answered)
            #expect($0.maximumAnswerByteCount == 0)
          }
          #expect(pair.requested == asked, "seed \(seed)")
          guard case .established(_, answered) = pair.initiatorEnd,
            case .established(_, asked) = pair.responderEnd
          else {
            Issue.record("\(pair), seed \(seed)")
            continue
          }
          pair = StartUpPair(options, options, asked)
          pair.run(piece: piece) { $0.reject(privateData: answered) }
          #expect(pair.initiatorEnd == .rejected(answered), "seed \(seed)")
          #expect(pair.responderEnd == nil)
        }
      }
    }
  }

  @Test("IW-6, IW-7, IW-8: both sides come to the same, whatever each brings")
  func everyCombination() throws {
    var runs = 0
    for flags in 0..<64 {
      func has(_ bit: Int) -> Bool { flags >> bit & 1 == 1 }
      var initiator = StartUp.Options()
      var responder = StartUp.Options()
      (initiator.wantsMarkers, responder.wantsMarkers) = (has(0), has(1))
      (initiator.wantsChecksums, responder.wantsChecksums) = (has(2), has(3))
      (initiator.isEnhanced, responder.isEnhanced) = (has(4), has(5))
      for depth in 0..<256 {
        initiator.inboundReadDepth = Self.depths[depth & 3]
        initiator.outboundReadDepth = Self.depths[depth >> 2 & 3]
        responder.inboundReadDepth = Self.depths[depth >> 4 & 3]
        responder.outboundReadDepth = Self.depths[depth >> 6]
        check(initiator, responder)
        runs += 1
      }
    }
    #expect(runs == 64 * 256)
  }

  @Test("IW-9: of the frames that may open a peer-to-peer connection both sides take the same")
  func everyReadyToReceive() {
    for depth in 0..<256 {
      for kinds in 0..<64 {
        var initiator = StartUp.Options()
        var responder = StartUp.Options()
        initiator.inboundReadDepth = Self.depths[depth & 3]
        initiator.outboundReadDepth = Self.depths[depth >> 2 & 3]
        responder.inboundReadDepth = Self.depths[depth >> 4 & 3]
        responder.outboundReadDepth = Self.depths[depth >> 6]
        initiator.isPeerToPeer = true
        initiator.readyToReceive = .init(rawValue: UInt8(kinds & 7))
        responder.readyToReceive = .init(rawValue: UInt8(kinds >> 3))
        guard !offered(initiator).isEmpty else { continue }
        check(initiator, responder)
      }
    }
  }

  @Test("IW-5 to IW-9: options at random, bytes in random pieces")
  func random() {
    let seed = UInt64.random(in: 0 ... .max)
    print("start-up: seed \(seed)")
    var generator = SeededGenerator(seed: seed)
    for _ in 0..<2000 {
      var sides: [StartUp.Options] = []
      for _ in 0..<2 {
        var options = StartUp.Options()
        options.wantsMarkers = .random(using: &generator)
        options.wantsChecksums = .random(using: &generator)
        options.isEnhanced = .random(using: &generator)
        options.inboundReadDepth = .random(in: 0...16383, using: &generator)
        options.outboundReadDepth = .random(in: 0...16383, using: &generator)
        options.readyToReceive = .init(rawValue: .random(in: 0...7, using: &generator))
        options.isPeerToPeer =
          options.isEnhanced && !offered(options).isEmpty && .random(using: &generator)
        sides.append(options)
      }
      check(sides[0], sides[1], "seed \(seed)") { Int.random(in: 1...$0, using: &generator) }
    }
  }

  // MARK: What is expected

  /// A read of no bytes is one, too.
  private func offered(_ options: StartUp.Options) -> StartFrame.ReadyToReceive {
    options.outboundReadDepth == 0
      ? options.readyToReceive.subtracting(.emptyRead) : options.readyToReceive
  }

  private func check(
    _ initiator: StartUp.Options, _ responder: StartUp.Options, _ comment: Comment? = nil,
    piece: (Int) -> Int = { $0 }
  ) {
    var pair = StartUpPair(initiator, responder)
    pair.run(piece: piece)
    if initiator.isEnhanced && !responder.isEnhanced {
      #expect(pair.reply.isEmpty, comment)
      #expect(pair.responderEnd?.failure?.cause == TerminateCause.MPA.startFrame, comment)
      #expect(pair.initiatorEnd?.failure?.mayBeOlderPeer == true, comment)
      return
    }
    var kind: StartFrame.ReadyToReceive?
    if initiator.isPeerToPeer {
      var both = offered(initiator).intersection(responder.readyToReceive)
      if responder.inboundReadDepth == 0 { both.remove(.emptyRead) }
      guard !both.isEmpty else {
        #expect(pair.responderEnd?.failure?.cause == TerminateCause.MPA.noReadyToReceive, comment)
        #expect(pair.initiatorEnd == .rejected([]), comment)
        return
      }
      kind =
        both.contains(.emptyWrite)
        ? .emptyWrite : both.contains(.emptyRead) ? .emptyRead : .emptyFPDU
    }
    guard let one = pair.initiatorEnd?.agreement, let other = pair.responderEnd?.agreement else {
      Issue.record("\(initiator) and \(responder) came to \(pair)")
      return
    }
    #expect(one.isInitiator && !other.isInitiator, comment)
    for (side, options, peer) in [(one, initiator, responder), (other, responder, initiator)] {
      #expect(side.isEnhanced == initiator.isEnhanced, comment)
      #expect(side.sendsMarkers == peer.wantsMarkers, comment)
      #expect(side.receivesMarkers == options.wantsMarkers, comment)
      #expect(side.usesChecksums == (initiator.wantsChecksums || responder.wantsChecksums), comment)
      #expect(side.readyToReceive == kind, comment)
      let (inbound, outbound) = (options.inboundReadDepth, options.outboundReadDepth)
      #expect(
        side.inboundReadDepth
          == (side.isEnhanced ? min(inbound, peer.outboundReadDepth) : inbound), comment)
      #expect(
        side.outboundReadDepth
          == (side.isEnhanced ? min(outbound, peer.inboundReadDepth) : outbound), comment)
    }
  }

  private func take(_ startUp: inout StartUp, _ bytes: [UInt8]) -> Int {
    withView(bytes) { startUp.receive($0, at: StartUpPair.inTime) }
  }
}
