import FabricIWARP
import FabricPlatform
import FabricWire

/// Two start-ups and the stream between them, cut into pieces.
struct StartUpPair {
  enum End: Equatable {
    case established(StartUp.Agreement, privateData: [UInt8])
    case rejected([UInt8])
    case failed(StartUp.Failure)
  }

  static let deadline = MonotonicTime(nanoseconds: 1000)
  static let inTime = MonotonicTime(nanoseconds: 999)

  private var initiator: StartUp
  private var responder: StartUp
  private var toResponder: [UInt8] = []
  private var toInitiator: [UInt8] = []
  private(set) var initiatorEnd: End?
  /// Nil also when the responder's user has rejected.
  private(set) var responderEnd: End?
  private(set) var requested: [UInt8]?
  /// All that went each way.
  private(set) var request: [UInt8] = []
  private(set) var reply: [UInt8] = []

  init(_ initiator: StartUp.Options, _ responder: StartUp.Options, _ privateData: [UInt8] = []) {
    self.initiator = StartUp(
      initiator: initiator, privateData: privateData, deadline: Self.deadline)
    self.responder = StartUp(responder: responder, deadline: Self.deadline)
  }

  /// Lets both talk until neither has anything to say.
  ///
  /// - Parameters:
  ///   - piece: how many of so many bytes arrive at once; at least one.
  ///   - answer: the responder's user.
  mutating func run(
    piece: (Int) -> Int = { $0 }, answer: (inout StartUp) -> Void = { $0.accept(privateData: []) }
  ) {
    repeat {
      drawEffects(answer)
      Self.deliver(&toResponder, &responder, piece)
      drawEffects(answer)
      Self.deliver(&toInitiator, &initiator, piece)
      drawEffects(answer)
    } while !(toResponder.isEmpty && toInitiator.isEmpty)
    if case .failed = responderEnd { initiator.streamEnded() }
    if initiatorEnd != nil { responder.streamEnded() }
    drawEffects(answer)
  }

  private static func deliver(
    _ bytes: inout [UInt8], _ startUp: inout StartUp, _ piece: (Int) -> Int
  ) {
    while !bytes.isEmpty {
      let count = piece(bytes.count)
      _ = withView(Array(bytes[..<count])) { startUp.receive($0, at: inTime) }
      bytes.removeFirst(count)
    }
  }

  private mutating func drawEffects(_ answer: (inout StartUp) -> Void) {
    while let effect = initiator.nextEffect() {
      if case .send(let bytes) = effect {
        toResponder += bytes
        request += bytes
      } else {
        initiatorEnd = Self.end(effect)
      }
    }
    while let effect = responder.nextEffect() {
      switch effect {
      case .send(let bytes):
        toInitiator += bytes
        reply += bytes
      case .requested(let privateData):
        requested = privateData
        answer(&responder)
      default: responderEnd = Self.end(effect)
      }
    }
  }

  static func end(_ effect: StartUp.Effect?) -> End? {
    switch effect {
    case .established(let agreement, let data): .established(agreement, privateData: data)
    case .rejected(let data): .rejected(data)
    case .failed(let failure): .failed(failure)
    case .send, .requested, nil: nil
    }
  }
}

extension StartUpPair.End {
  var agreement: StartUp.Agreement? {
    if case .established(let agreement, _) = self { agreement } else { nil }
  }
  var failure: StartUp.Failure? {
    if case .failed(let failure) = self { failure } else { nil }
  }
}
