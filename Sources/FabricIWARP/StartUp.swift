public import FabricPlatform
import FabricVerbs
public import FabricWire

/// What the two sides of a connection do before the first FPDU, without I/O: bytes and time in,
/// bytes and effects out. (RFC 5044 section 7.1, RFC 6581; IW-5 to IW-9)
///
/// The initiator sends a request, the responder's user accepts or rejects it, and a reply goes back.
/// After each call, effects are drawn with `nextEffect` until there is none. A value, confined to
/// whoever holds it; at most a frame (532 bytes) is kept.
public struct StartUp: Sendable {
  /// What the owner is to do or to know, in order.
  public enum Effect: Equatable, Sendable {
    /// Put these bytes into the stream.
    case send([UInt8])
    /// At the responder: its user is to `accept` or to `reject`.
    case requested(privateData: [UInt8])
    /// Behind this FPDUs follow. The private data is the peer's.
    case established(Agreement, privateData: [UInt8])
    /// At the initiator: the responder has declined. The stream is of no further use.
    case rejected(privateData: [UInt8])
    /// The stream is to be closed when what was to be sent has been.
    case failed(Failure)
  }

  private enum State {
    /// The responder a request, the initiator a reply.
    case awaiting
    case answering(StartFrame)
    case over
  }

  private let options: Options
  private let isInitiator: Bool
  private let deadline: MonotonicTime
  private var state = State.awaiting
  /// What has come of the peer's frame.
  private var frame: [UInt8] = []
  private var effects: [Effect] = []

  /// Begins as the side that has connected: the first effect sends the request.
  ///
  /// Traps when there is more private data than `options.maximumPrivateDataByteCount`, and when a
  /// peer-to-peer connection has no kind of ready-to-receive frame to offer.
  /// - Parameter deadline: when the reply must have come.
  public init(initiator options: Options, privateData: [UInt8], deadline: MonotonicTime) {
    precondition(
      privateData.count <= options.maximumPrivateDataByteCount, "the private data is too long")
    self.options = options
    self.deadline = deadline
    isInitiator = true
    effects.append(.send(options.request(privateData).bytes))
  }

  /// Begins as the side that was connected to.
  ///
  /// - Parameter deadline: when the request must have come. The answer may take any time.
  public init(responder options: Options, deadline: MonotonicTime) {
    self.options = options
    self.deadline = deadline
    isInitiator = false
  }

  /// What there is to do next; nil when that is nothing.
  public mutating func nextEffect() -> Effect? {
    effects.isEmpty ? nil : effects.removeFirst()
  }

  // MARK: The peer

  /// Takes what has come from the peer.
  ///
  /// - Returns: how many of `bytes` belonged to the exchange; those behind are the first FPDU's.
  public mutating func receive(_ bytes: WireView, at now: MonotonicTime) -> Int {
    timePassed(now)
    var taken = 0
    while case .awaiting = state, taken < bytes.byteCount {
      let count = min(missingByteCount, bytes.byteCount - taken)
      frame += bytes.slice(taken, count).array
      taken += count
      switch readFrame() {
      case .success(nil): continue
      case .success(let frame?): isInitiator ? takeReply(frame) : takeRequest(frame)
      case .failure(let malformed): fail(Failure(malformed, as: kind))
      }
    }
    // The initiator is to wait for the reply. (RFC 5044 section 7.1.2)
    if case .answering = state, taken < bytes.byteCount { fail(.bytesBeforeReply) }
    return taken
  }

  /// The peer's bytes have ended, or the connection broke.
  public mutating func streamEnded() {
    switch state {
    case .awaiting:
      fail(.streamEnded(kind, byteCount: frame.count, mayBeOlder: options.isEnhanced))
    case .answering: fail(.streamEndedBeforeReply)
    case .over: break
    }
  }

  /// Fails the exchange when its deadline has come.
  public mutating func timePassed(_ now: MonotonicTime) {
    guard case .awaiting = state, now >= deadline else { return }
    fail(.late(kind, byteCount: frame.count))
  }

  /// What the peer is to send.
  private var kind: StartFrame.Kind { isInitiator ? .reply : .request }

  /// Bytes that the peer's frame still needs, as far as can be told.
  private var missingByteCount: Int {
    let header = StartFrame.headerByteCount
    guard frame.count >= header else { return header - frame.count }
    return header + Int(frame[header - 2]) << 8 + Int(frame[header - 1]) - frame.count
  }

  private func readFrame() -> Result<StartFrame?, StartFrame.Malformed> {
    let revisions: ClosedRange<UInt8> = options.isEnhanced ? 1...2 : 1...1
    return unsafe frame.withUnsafeBytes { raw in
      let view = unsafe WireView(raw)
      return Result { () throws(StartFrame.Malformed) in
        try StartFrame.read(kind, from: view, revisions: revisions)?.frame
      }
    }
  }

  // MARK: The initiator

  private mutating func takeReply(_ reply: StartFrame) {
    guard !reply.isRejected else { return end([.rejected(privateData: reply.privateData)]) }
    switch options.agreement(with: reply) {
    case .success(let agreement):
      end([.established(agreement, privateData: reply.privateData)])
    case .failure(let failure):
      // The responder takes FPDUs now.
      if let cause = failure.cause {
        effects.append(.send(terminate(cause, as: reply)))
      }
      fail(failure)
    }
  }

  /// The FPDU that tells the sender of `reply` why the connection ends.
  private func terminate(_ cause: TerminateCause, as reply: StartFrame) -> [UInt8] {
    let header = SegmentHeader(
      .terminate, isLast: true,
      place: .untagged(
        queue: UntaggedQueue.terminate.rawValue, sequence: 1, offset: 0,
        invalidates: .init(rawValue: 0)))
    var segment = [UInt8](repeating: 0, count: header.byteCount)
    unsafe segment.withUnsafeMutableBytes { unsafe header.write(to: WireBuffer($0)) }
    segment += TerminateMessage(cause).bytes
    var writer = FPDUWriter(
      markers: reply.wantsMarkers, checksums: options.wantsChecksums || reply.wantsChecksums)
    var bytes: [UInt8] = []
    unsafe segment.withUnsafeBytes { unsafe writer.append(WireView($0), to: &bytes) }
    return bytes
  }

  // MARK: The responder

  private mutating func takeRequest(_ request: StartFrame) {
    if let failure = options.refusal(of: request) {
      effects.append(.send(options.rejection(of: request, []).bytes))
      return fail(failure)
    }
    state = .answering(request)
    effects.append(.requested(privateData: request.privateData))
  }

  /// Bytes of private data that an answer may have; 0 unless an answer is due.
  public var maximumAnswerByteCount: Int {
    guard case .answering(let request) = state else { return 0 }
    return StartFrame.maximumPrivateDataByteCount
      - (request.limits == nil ? 0 : StartFrame.Limits.byteCount)
  }

  /// Accepts the request: the reply is sent, and the connection is established.
  ///
  /// Does nothing when the exchange has failed since. Traps before there was a request, and when
  /// there is more private data than `maximumAnswerByteCount`.
  public mutating func accept(privateData: [UInt8]) {
    guard let request = answered(privateData) else { return }
    let (reply, agreement) = options.answer(to: request, privateData)
    end([.send(reply.bytes), .established(agreement, privateData: request.privateData)])
  }

  /// Declines the request: the reply says so, and the stream is to be closed behind it.
  ///
  /// Does nothing and traps as `accept` does.
  public mutating func reject(privateData: [UInt8]) {
    guard let request = answered(privateData) else { return }
    end([.send(options.rejection(of: request, privateData).bytes)])
  }

  private func answered(_ privateData: [UInt8]) -> StartFrame? {
    switch state {
    case .awaiting: preconditionFailure("there is no request to answer")
    case .over: return nil
    case .answering(let request):
      precondition(privateData.count <= maximumAnswerByteCount, "the private data is too long")
      return request
    }
  }

  // MARK: Ends

  private mutating func fail(_ failure: Failure) { end([.failed(failure)]) }

  private mutating func end(_ last: [Effect]) {
    effects += last
    state = .over
    frame = []
  }
}
