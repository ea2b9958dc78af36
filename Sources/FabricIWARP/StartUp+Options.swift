extension StartUp {
  /// What one side brings to a connection.
  public struct Options: Equatable, Sendable {
    /// Markers in what this side receives; costly for both.
    public var wantsMarkers = false
    /// Checksums in both directions. They are used when either side wants them.
    public var wantsChecksums = true
    /// Whether RFC 6581 is spoken. Without it the initiator asks in revision 1 of MPA, and the
    /// responder closes when asked in another, as RFC 5044 has it.
    public var isEnhanced = true
    /// RDMA reads of the peer that this side answers at a time, at most 16383, which leaves it open.
    public var inboundReadDepth: UInt16 = 0
    /// RDMA reads that this side would have under way, at most 16383, which leaves it open.
    public var outboundReadDepth: UInt16 = 0
    /// The initiator's wish that neither side's user need be the first to send. (RFC 6581 section 9)
    public var isPeerToPeer = false
    /// What the initiator can send, and the responder take, to open a peer-to-peer connection.
    public var readyToReceive: StartFrame.ReadyToReceive = [.emptyWrite, .emptyRead]

    public init() {}

    /// Bytes of the user's own in a request.
    public var maximumPrivateDataByteCount: Int {
      StartFrame.maximumPrivateDataByteCount - (isEnhanced ? StartFrame.Limits.byteCount : 0)
    }

    /// A read of no bytes needs a read that may be under way.
    private var offered: StartFrame.ReadyToReceive {
      outboundReadDepth == 0 ? readyToReceive.subtracting(.emptyRead) : readyToReceive
    }

    func request(_ privateData: [UInt8]) -> StartFrame {
      var request = StartFrame(.request)
      request.wantsMarkers = wantsMarkers
      request.wantsChecksums = wantsChecksums
      request.revision = isEnhanced ? 2 : 1
      request.privateData = privateData
      guard isEnhanced else {
        precondition(!isPeerToPeer, "only an enhanced connection can be peer-to-peer")
        return request
      }
      var limits = StartFrame.Limits(
        inboundReadDepth: inboundReadDepth, outboundReadDepth: outboundReadDepth)
      if isPeerToPeer {
        precondition(!offered.isEmpty, "a peer-to-peer connection needs a frame that opens it")
        limits.isPeerToPeer = true
        limits.readyToReceive = offered
      }
      request.limits = limits
      return request
    }
  }
}

// MARK: The responder's side

extension StartUp.Options {
  /// Why no user need be asked about `request`; nil when one is to be.
  func refusal(of request: StartFrame) -> StartUp.Failure? {
    guard let limits = request.limits, limits.isPeerToPeer else { return nil }
    return opening(of: limits) == nil
      ? .noReadyToReceive(offered: limits.readyToReceive, taken: readyToReceive) : nil
  }

  func rejection(of request: StartFrame, _ privateData: [UInt8]) -> StartFrame {
    var reply = answer(to: request, privateData).reply
    reply.isRejected = true
    return reply
  }

  /// The reply is in the revision of the request, and asks for nothing that the initiator cannot
  /// give. (RFC 6581 section 9)
  func answer(
    to request: StartFrame, _ privateData: [UInt8]
  ) -> (reply: StartFrame, agreement: StartUp.Agreement) {
    var reply = StartFrame(.reply)
    reply.wantsMarkers = wantsMarkers
    reply.wantsChecksums = wantsChecksums || request.wantsChecksums
    reply.revision = request.revision
    reply.privateData = privateData
    var agreement = StartUp.Agreement(
      isInitiator: false, isEnhanced: request.limits != nil, sendsMarkers: request.wantsMarkers,
      receivesMarkers: wantsMarkers, usesChecksums: reply.wantsChecksums,
      inboundReadDepth: inboundReadDepth, outboundReadDepth: outboundReadDepth)
    if let limits = request.limits {
      agreement.inboundReadDepth = min(inboundReadDepth, limits.outboundReadDepth)
      agreement.outboundReadDepth = min(outboundReadDepth, limits.inboundReadDepth)
      agreement.readyToReceive = limits.isPeerToPeer ? opening(of: limits) : nil
      var answered = StartFrame.Limits(
        inboundReadDepth: agreement.inboundReadDepth,
        outboundReadDepth: agreement.outboundReadDepth)
      answered.isPeerToPeer = limits.isPeerToPeer
      answered.readyToReceive = agreement.readyToReceive ?? []
      reply.limits = answered
    }
    return (reply, agreement)
  }

  private func opening(of limits: StartFrame.Limits) -> StartFrame.ReadyToReceive? {
    var kinds = limits.readyToReceive.intersection(readyToReceive)
    if min(inboundReadDepth, limits.outboundReadDepth) == 0 { kinds.remove(.emptyRead) }
    return kinds.preferred
  }
}

// MARK: The initiator's side

extension StartUp.Options {
  /// What this side's request and `reply`, which is no rejection, come to.
  func agreement(with reply: StartFrame) -> Result<StartUp.Agreement, StartUp.Failure> {
    var agreement = StartUp.Agreement(
      isInitiator: true, isEnhanced: reply.limits != nil, sendsMarkers: reply.wantsMarkers,
      receivesMarkers: wantsMarkers, usesChecksums: wantsChecksums || reply.wantsChecksums,
      inboundReadDepth: inboundReadDepth, outboundReadDepth: outboundReadDepth)
    guard let limits = reply.limits else {
      // An older responder may answer in its own revision; it can do less.
      guard reply.revision == 1 else { return .failure(.limitsMissing) }
      return isPeerToPeer ? .failure(.notPeerToPeer) : .success(agreement)
    }
    guard
      limits.outboundReadDepth <= inboundReadDepth
        || limits.outboundReadDepth == StartFrame.Limits.maximumDepth
    else {
      return .failure(
        .tooFewInboundReads(wanted: limits.outboundReadDepth, answered: inboundReadDepth))
    }
    agreement.inboundReadDepth = min(inboundReadDepth, limits.outboundReadDepth)
    agreement.outboundReadDepth = min(outboundReadDepth, limits.inboundReadDepth)
    guard isPeerToPeer else { return .success(agreement) }
    guard limits.isPeerToPeer else { return .failure(.notPeerToPeer) }
    var kinds = limits.readyToReceive.intersection(offered)
    guard !kinds.isEmpty else {
      return .failure(.noReadyToReceive(offered: offered, taken: limits.readyToReceive))
    }
    if agreement.outboundReadDepth == 0 { kinds.remove(.emptyRead) }
    guard let kind = kinds.preferred else {
      return .failure(.tooFewInboundReads(wanted: 1, answered: limits.inboundReadDepth))
    }
    agreement.readyToReceive = kind
    return .success(agreement)
  }
}

extension StartFrame.ReadyToReceive {
  /// The one to use of those in the set. An empty write needs nothing of the peer, an empty read
  /// one of its reads, and an empty FPDU is known to few.
  fileprivate var preferred: Self? {
    ([.emptyWrite, .emptyRead, .emptyFPDU] as [Self]).first(where: contains)
  }
}
