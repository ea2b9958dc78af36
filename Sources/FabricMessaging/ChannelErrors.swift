public import FabricVerbs

/// Why a message was not taken. Nothing was sent.
public enum SendRefusal: Error, Equatable, Sendable, CustomStringConvertible {
  /// The peer has no receive free for it; `channelCanSend` follows.
  case noCredit
  /// The peer has no buffer free for it; `channelCanSend` follows.
  case noBuffer
  /// Longer than the peer takes.
  case tooLong
  /// The channel is not open.
  case closed

  public var description: String {
    switch self {
    case .noCredit: "the peer has no receive free: send again when the channel can send"
    case .noBuffer: "the peer has no buffer free: send again when the channel can send"
    case .tooLong: "the message is longer than the peer takes"
    case .closed: "the channel is closed"
    }
  }
}

/// Why an open channel closed.
public enum ChannelCloseReason: Error, Equatable, Sendable, CustomStringConvertible {
  /// This side closed it.
  case local
  /// The peer closed it.
  case peer
  /// The peer's process ended, its host is out of reach, or it fell silent.
  case peerDied(String)
  /// The peer broke the protocol or a request failed.
  case failure(String)

  public var description: String {
    switch self {
    case .local: "closed by this side"
    case .peer: "closed by the peer"
    case .peerDied(let words), .failure(let words): words
    }
  }
}

/// Why a channel did not open.
public enum ChannelOpenError: Error, Equatable, Sendable, CustomStringConvertible {
  /// The fabric could not connect.
  case connect(ConnectError)
  /// The peer refused, with its reason.
  case refused(String)
  /// The peer has no room for a channel now, or has stopped to listen. Trying again may help.
  case unavailable(String)
  /// The two sides have not both proven a key that both have. Trying again does not help.
  case unproven(String)
  /// The peer speaks another version or sent what cannot be understood.
  case protocolMismatch(String)
  /// The connection broke before the channel was open.
  case lost(String)
  case timedOut
  case invalidOptions(String)
  case resources(String)

  public var description: String {
    switch self {
    case .connect(let error): error.description
    case .refused(let reason): "the peer refused: \(reason)"
    case .unavailable(let reason): "the peer cannot take a channel now: \(reason)"
    case .unproven(let words), .protocolMismatch(let words), .lost(let words),
      .invalidOptions(let words), .resources(let words):
      words
    case .timedOut: "expected the peer to open the channel in time, but it did not answer"
    }
  }
}
