import FabricIWARP
import FabricPlatform
import FabricWire

/// A start-up against any bytes. Offset 0: role and options, 1: depths and what the user does,
/// 2: the pieces' size, 3: the bytes. However they are cut, the same must come of them.
func fuzzStartUp(_ input: FuzzInput) {
  var input = input
  let run = StartUpRun(flags: input.byte(), choices: input.byte())
  let piece = Int(input.byte())
  let bytes = input.remainder()
  let whole = run.outcome(bytes, piece: bytes.count)
  let cut = run.outcome(bytes, piece: piece)
  // Bytes behind the one that shows a fault may be taken with it, and its words may say more.
  if case .failed(let one) = whole.effects.last, case .failed(let other) = cut.effects.last {
    require(one.cause == other.cause, "\(one) of the whole, \(other) of pieces")
    require(whole.effects.count == cut.effects.count, "\(whole) of the whole, \(cut) of pieces")
  } else {
    require(whole == cut, "\(whole) of the whole, \(cut) of pieces")
  }
}

private struct StartUpRun {
  struct Outcome: Equatable {
    var takenByteCount = 0
    var effects: [StartUp.Effect] = []
  }

  enum Answer: Int { case accept, reject, end, late }

  let isInitiator: Bool
  let options: StartUp.Options
  let answer: Answer
  let privateData: [UInt8]

  init(flags: UInt8, choices: UInt8) {
    let depths: [UInt16] = [0, 1, 100, 16383]
    var options = StartUp.Options()
    isInitiator = flags & 1 != 0
    options.wantsMarkers = flags & 2 != 0
    options.wantsChecksums = flags & 4 != 0
    options.isEnhanced = flags & 8 != 0
    options.readyToReceive = .init(rawValue: flags >> 5)
    options.inboundReadDepth = depths[Int(choices & 3)]
    options.outboundReadDepth = depths[Int(choices >> 2 & 3)]
    let opens = options.readyToReceive.subtracting(options.outboundReadDepth == 0 ? .emptyRead : [])
    options.isPeerToPeer = flags & 16 != 0 && options.isEnhanced && !opens.isEmpty
    self.options = options
    answer = Answer(rawValue: Int(choices >> 4 & 3))!
    privateData = choices & 64 == 0 ? [] : [UInt8](repeating: 9, count: 508)
  }

  func outcome(_ bytes: [UInt8], piece: Int) -> Outcome {
    let deadline = MonotonicTime(nanoseconds: 2)
    let now = MonotonicTime(nanoseconds: 1)
    var startUp =
      isInitiator
      ? StartUp(initiator: options, privateData: privateData, deadline: deadline)
      : StartUp(responder: options, deadline: deadline)
    var outcome = Outcome()
    var rest = bytes[...]
    while !rest.isEmpty {
      let count = min(max(1, piece), rest.count)
      let taken = withExactView(rest.prefix(count)) { startUp.receive($0, at: now) }
      require(taken <= count, "took \(taken) of \(count) bytes")
      outcome.takenByteCount += taken
      if taken < count { break }
      rest = rest.dropFirst(count)
    }
    require(outcome.takenByteCount <= 532, "more than a frame was taken")
    while let effect = startUp.nextEffect() {
      outcome.effects.append(effect)
      check(effect)
      if case .requested = effect { act(&startUp) }
    }
    if answer == .end { startUp.streamEnded() }
    if answer == .late { startUp.timePassed(deadline) }
    while let effect = startUp.nextEffect() { outcome.effects.append(effect) }
    require(outcome.effects.count <= 4, "\(outcome.effects.count) effects of one exchange")
    return outcome
  }

  private func act(_ startUp: inout StartUp) {
    switch answer {
    case .accept: startUp.accept(privateData: privateData)
    case .reject: startUp.reject(privateData: privateData)
    case .end: startUp.streamEnded()
    case .late: startUp.timePassed(MonotonicTime(nanoseconds: .max))
    }
  }

  private func check(_ effect: StartUp.Effect) {
    switch effect {
    case .established(let agreement, let data):
      require(agreement.isInitiator == isInitiator, "the roles changed")
      require(agreement.inboundReadDepth <= options.inboundReadDepth, "more reads than offered")
      require(agreement.outboundReadDepth <= options.outboundReadDepth, "more reads than wanted")
      require(agreement.usesChecksums || !options.wantsChecksums, "checksums were lost")
      require(
        agreement.readyToReceive.map {
          options.readyToReceive.isSuperset(of: $0) && $0.rawValue.nonzeroBitCount == 1
        } ?? !(isInitiator && options.isPeerToPeer), "no frame opens the connection")
      require(data.count <= 512, "more private data than there can be")
    case .send(let bytes) where !isInitiator:
      let frame = withExactView(bytes) { try? StartFrame.read(.reply, from: $0) }
      require(frame?.byteCount == bytes.count, "a reply that cannot be read")
    default: break
    }
  }
}
