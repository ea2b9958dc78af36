import FabricBounded
public import FabricCompletion
import FabricHostDriver
public import FabricPlatform
import FabricWire

extension VhostUserBlock: ProgressSource {
  /// While the service does not sleep the kernel is asked for messages in each so many rounds; rings are looked
  /// at in every round.
  private static let roundsBetweenAsks = 64

  public func progress() -> Int {
    roundCount &+= 1
    if isClosed { return 0 }
    var count = 0
    if mustAsk || acceptAgainAt != nil || (!isArmed && roundCount % Self.roundsBetweenAsks == 0) {
      count &+= ask()
    }
    if let session, session.isGone || session.pending != nil { count &+= goOn() }
    count &+= pump()
    publish()
    if count > 0 { volumeReference.with { $0.flushSubmissions() } }
    return count
  }

  public var descriptor: CInt? { poller.descriptor.rawValue }

  /// Has drivers kick; what they made available before is seen in the round that follows.
  public func arm() {
    isArmed = true
    eachRing { $0.askForKicks() }
  }

  public func disarm() {
    isArmed = false
    mustAsk = true
    eachRing { $0.spareKicks() }
  }

  /// Where no kick tells of a ring, the time does. (VU-35)
  public var nextDeadline: MonotonicTime? {
    guard let session, !session.isGone else { return acceptAgainAt }
    var isSilent = false
    var index = 0
    while index < session.queueReferences.count {
      session.queueReferences[index].with { queue in
        if queue.kick == nil, session.isRunning(queue) { isSilent = true }
      }
      index &+= 1
    }
    return isSilent ? .now + .milliseconds(1) : acceptAgainAt
  }

  private func eachRing(_ body: (SplitQueue) -> Void) {
    guard let session, !session.isGone else { return }
    var index = 0
    while index < session.queueReferences.count {
      session.queueReferences[index].with { queue in
        if let ring = queue.ringReference, !queue.isBroken { ring.with(body) }
      }
      index &+= 1
    }
  }

  /// Asks the kernel what has come, and takes it.
  private func ask() -> Int {
    mustAsk = false
    var count = 0
    poller.takeEdges(prepare: { _ in }) { tag, hasEnded in
      switch tag {
      case Tag.listener: mayHaveConnection = true
      case Tag.socket:
        session?.hasInput = true
        // Nothing that was said before counts any more.
        if hasEnded, session?.pending != nil { hangUp() }
      // A kick: rings are looked at anyway.
      default: break
      }
    }
    if let session, session.hasInput, session.pending == nil { count &+= takeMessages(session) }
    if mayHaveConnection { count &+= accept() }
    return count
  }

  // MARK: Front ends

  private func accept() -> Int {
    var count = 0
    acceptAgainAt = nil
    // Who comes back waits until what it left has ended.
    while let device, session.map({ !$0.isGone }) ?? true {
      do throws(Errno) {
        guard let (socket, processID) = try listener.acceptLocal() else {
          mayHaveConnection = false
          return count
        }
        count += 1
        if let session {
          refusals.refused(
            "refused process \(processID) at \(path): process \(session.processID) has the volume")
          continue
        }
        let session = GuestSession(socket, processID: processID, device: device)
        try poller.addEdges(socket.number, tag: Tag.socket)
        self.session = session
        count += takeMessages(session)
      } catch {
        options.log("nobody can be taken at \(path) for now: \(error)")
        acceptAgainAt = .now + .milliseconds(100)
        return count
      }
    }
    return count
  }

  /// Looks no more at what the front end shares; its memory stays until the volume's requests have ended.
  /// (VU-3)
  func hangUp() {
    guard let session, !session.isGone else { return }
    session.isGone = true
    session.pending = nil
    poller.remove(session.socket.socket.number)
    for queue in session.queues {
      if let kick = queue.kick { poller.remove(kick.number) }
      queue.stop()
    }
    if waiting >= 0 {
      // What was not handed over is not.
      let slot = waiting
      waiting = -1
      requests[slot].isIssued = true
      if requests[slot].commandCount == 0 { finish(slot) }
    }
    if session.agreement.features.rawValue != 0 {
      options.log("process \(session.processID) has left \(path)")
    }
  }

  /// Goes on with what waited for the ends of requests. Not from within the volume's own calls: memory is
  /// let go of here.
  private func goOn() -> Int {
    guard let session else { return 0 }
    if session.isGone {
      guard session.requestCount == 0 else { return 0 }
      endSessionIfDrained()
      return 1 + accept()
    }
    guard let pending = session.pending, !session.mustWait(pending.request) else { return 0 }
    // Ends of requests are told before what follows from them.
    publish()
    session.pending = nil
    carryOut(pending.request, pending.header, pending.descriptors, session)
    return 1 + takeMessages(session)
  }

  func endSessionIfDrained() {
    guard let session, session.isGone, session.requestCount == 0 else { return }
    self.session = nil
  }

  /// Takes what the front end has sent, until something must wait.
  private func takeMessages(_ session: GuestSession) -> Int {
    var count = 0
    while !session.isGone, session.pending == nil {
      switch session.socket.next() {
      case .nothing:
        session.hasInput = false
        return count
      case .hangUp: hangUp()
      case .fault(let fault): refuse(fault, session)
      case .message(let header, let descriptors):
        take(header, descriptors, session)
      }
      count += 1
    }
    return count
  }

  private func take(
    _ header: MessageHeader, _ descriptors: [PassedDescriptor], _ session: GuestSession
  ) {
    do throws(VhostUserFault) {
      let request = try session.agreement.request(
        header, session.socket.payload(of: header), descriptorCount: descriptors.count)
      if session.mustWait(request) {
        session.pending = GuestSession.Pending(
          request: request, header: header, descriptors: descriptors)
      } else {
        carryOut(request, header, descriptors, session)
      }
    } catch { refuse(error, header, session) }
  }

  func refuse(_ fault: VhostUserFault, _ session: GuestSession) {
    refusals.refused("hung up on process \(session.processID) at \(path): \(fault)")
    hangUp()
  }

  /// A message that makes no sense is answered so where the front end asks, else the stream ends. (VU-13)
  func refuse(_ fault: VhostUserFault, _ header: MessageHeader, _ session: GuestSession) {
    guard header.wantsReply, session.agreement.protocolFeatures.contains(.replyOnDemand),
      !fault.endsStream
    else { return refuse(fault, session) }
    refusals.refused("refused a message of process \(session.processID) at \(path): \(fault)")
    acknowledge(header, isDone: false, session)
  }

  func acknowledge(_ header: MessageHeader, isDone: Bool, _ session: GuestSession) {
    answer(header, byteCount: 8, session) { $0.set(isDone ? 0 : 1 as UInt64, at: 0) }
  }
}
