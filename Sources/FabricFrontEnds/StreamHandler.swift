public import FabricWire

/// What one connection's protocol does with its bytes. All calls come on the service's thread, one at
/// a time; each serves whatever has come, not one message.
public protocol StreamHandler: AnyObject {
  /// Bytes have come: all that were not consumed before, in order. They stay where they are until the
  /// call returns.
  ///
  /// Consume as many whole messages as there are, unless `stream.isResting`. After
  /// `stream.place` return what was consumed up to the first byte to be placed: those bytes are not
  /// consumed, they go where they were told to go. After closing, what is returned is not used.
  ///
  /// - Returns: how many bytes were consumed, from the front. The rest comes again, with what
  ///   follows it, as soon as there are `stream.neededByteCount` (set in this call, otherwise 1 more
  ///   than now).
  func stream(_ stream: ServedStream, received bytes: WireView) -> Int

  /// All bytes that `stream.place` spoke of are in their place. `received` goes on behind them.
  func streamDidPlace(_ stream: ServedStream)

  /// Data that was queued by reference is with the kernel: its memory may be used again.
  ///
  /// - Parameter tokens: in the order in which they were queued.
  func stream(_ stream: ServedStream, sent tokens: Span<UInt64>)

  /// Whether the peer owes data for which a buffer is kept. What `stream.place` waits for is known without
  /// that.
  var owesData: Bool { get }

  /// The stream is gone. Nothing more is called. Memory of a placement and of data whose token was
  /// not told is the handler's again at once. Requests of its that a port has not ended are still to
  /// be quiesced (`ServedPort.quiesce`); until then keep what they use.
  func stream(_ stream: ServedStream, closed reason: StreamEnd)
}

extension StreamHandler {
  public var owesData: Bool { false }
}

/// Why a stream ended.
public enum StreamEnd: Equatable, Sendable, CustomStringConvertible {
  /// The peer ended its direction, or went away.
  case peerEnded
  /// The handler closed it in order, and everything queued was sent.
  case closed
  /// It was reset from this side, or the front end stops.
  case reset
  /// The peer did not make itself known in time.
  case handshakeTimeout
  /// The peer did not send what it owed, or take what it had asked for, while others waited for the
  /// buffers.
  case stalled
  /// The connection failed: the system's words.
  case failed(String)

  public var description: String {
    switch self {
    case .peerEnded: "the peer ended it"
    case .closed: "ended in order"
    case .reset: "ended from this side"
    case .handshakeTimeout: "the peer did not make itself known in time"
    case .stalled: "the peer kept buffers that others waited for, and moved no data"
    case .failed(let words): words
    }
  }
}
