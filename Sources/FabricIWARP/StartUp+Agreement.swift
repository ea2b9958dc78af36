extension StartUp {
  /// What holds for a connection that has been established.
  public struct Agreement: Equatable, Sendable {
    /// Of this side. The initiator sends the first FPDU; until it has come the responder may send
    /// none. (RFC 5044 section 7.1.2)
    public var isInitiator: Bool
    /// Whether the depths were agreed upon; otherwise they are this side's own, and the users see to
    /// them.
    public var isEnhanced: Bool
    /// Whether this side puts markers into what it sends.
    public var sendsMarkers: Bool
    /// Whether there are markers in what this side receives.
    public var receivesMarkers: Bool
    /// Whether checksums are filled in and checked, in both directions.
    public var usesChecksums: Bool
    /// RDMA reads that the peer will have under way at most; 16383 leaves it open.
    public var inboundReadDepth: UInt16
    /// RDMA reads that this side may have under way; 16383 leaves it open, 0 forbids them.
    public var outboundReadDepth: UInt16
    /// What the initiator sends as its first frame, before anything of its user's; exactly one kind.
    /// Nil when the user's first message opens the connection. (RFC 6581 section 9)
    public var readyToReceive: StartFrame.ReadyToReceive?
  }

  /// Why there is no connection.
  public struct Failure: Error, Equatable, Sendable, CustomStringConvertible {
    /// What was expected, what came, and what to do.
    public let description: String
    /// In the terms of a terminate message; nil where there is no such term. A message is sent where
    /// the peer can take one.
    public let cause: TerminateCause?
    /// Whether the peer may be one that closes when it is asked in a revision that it does not know:
    /// another stream, with `isEnhanced` false, may do. (RFC 5044 section 7.1.1)
    public let mayBeOlderPeer: Bool

    private init(_ description: String, _ cause: TerminateCause?, mayBeOlderPeer: Bool = false) {
      self.description = description
      self.cause = cause
      self.mayBeOlderPeer = mayBeOlderPeer
    }
  }
}

extension StartUp.Failure {
  init(_ malformed: StartFrame.Malformed, as kind: StartFrame.Kind) {
    let came =
      switch malformed {
      case .key:
        "bytes that begin otherwise: the peer speaks another protocol than iWARP; check host and port"
      case .revision(let revision): "revision \(revision), which this side does not speak"
      case .privateDataTooLong(let count):
        "\(count) bytes of private data, where \(StartFrame.maximumPrivateDataByteCount) are the most"
      case .limits: "an enhanced one without its read depths, or in revision 1"
      }
    self.init("expected \(kind.words), got \(came)", TerminateCause.MPA.startFrame)
  }

  static let bytesBeforeReply = Self(
    "expected nothing behind the MPA request until it is answered, got bytes: the peer breaks MPA",
    TerminateCause.MPA.startFrame)

  static let streamEndedBeforeReply = Self(
    "the peer closed before its request was answered; it may connect again", nil)

  /// - Parameter mayBeOlder: whether an older peer would have closed like this.
  static func streamEnded(_ kind: StartFrame.Kind, byteCount: Int, mayBeOlder: Bool) -> Self {
    Self(
      "expected \(kind.words), got the end of the stream after \(byteCount) bytes of it", nil,
      mayBeOlderPeer: mayBeOlder && kind == .reply && byteCount == 0)
  }

  static func late(_ kind: StartFrame.Kind, byteCount: Int) -> Self {
    Self(
      "expected \(kind.words) before the deadline, got \(byteCount) bytes of it: check that the port is "
        + "one of iWARP, and that the peer is not stopped",
      nil)
  }

  static let limitsMissing = Self(
    "expected an enhanced MPA reply, got one of revision 2 without read depths: connect without RFC 6581",
    TerminateCause.MPA.startFrame)

  static let notPeerToPeer = Self(
    "expected a peer-to-peer connection, got a reply that knows none: connect without, and send first",
    TerminateCause.MPA.noReadyToReceive)

  static func noReadyToReceive(
    offered: StartFrame.ReadyToReceive, taken: StartFrame.ReadyToReceive
  ) -> Self {
    Self(
      """
      expected a frame that opens a peer-to-peer connection and that both sides know: the initiator \
      sends \(offered.words), the responder takes \(taken.words)
      """, TerminateCause.MPA.noReadyToReceive)
  }

  static func tooFewInboundReads(wanted: UInt16, answered: UInt16) -> Self {
    Self(
      "expected at most \(answered) RDMA reads at a time, got \(wanted): raise the inbound read depth",
      TerminateCause.MPA.tooFewInboundReads)
  }
}

extension StartFrame.Kind {
  fileprivate var words: String { self == .request ? "an MPA request" : "an MPA reply" }
}

extension StartFrame.ReadyToReceive {
  fileprivate var words: String {
    var names: [String] = []
    if contains(.emptyFPDU) { names.append("empty FPDUs") }
    if contains(.emptyWrite) { names.append("empty writes") }
    if contains(.emptyRead) { names.append("empty reads") }
    return names.isEmpty ? "none" : names.joined(separator: ", ")
  }
}
