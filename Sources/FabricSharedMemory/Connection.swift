import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// The socket between two queue pairs: opening, announcements, doorbells, and its hang-up, which
/// tells that the peer is gone.
///
/// Locks are taken in this order: the queue pair's remote work, then this connection's state.
final class Connection: EventSource, @unchecked Sendable {
  private struct State {
    var socket: SequencedSocket?
    var events: EventChannel?
    var tag: UInt64 = 0
    /// Waiting for the listener's answer until then.
    var answerDeadline: MonotonicTime?
    /// What the socket had no room for.
    var unsent: [Unsent] = []
    var saidGoodbye = false
    var peerSaidGoodbye = false
    var hungUp = false
  }

  private struct Unsent {
    let bytes: [UInt8]
    let descriptor: CInt?
    /// The address of the memory that it announces.
    let announces: UInt64?
  }

  /// Messages that may wait for a peer that does not read.
  private static let unsentLimit = 4096

  weak var queuePair: SharedMemoryQueuePair?
  private let state = Mutex(State())
  /// The socket's number for the doorbell, which takes no lock; -1 before there is one. The
  /// socket stays open as long as this object.
  private let number = Atomic<CInt>(-1)
  private let death = Atomic<Bool>(false)

  /// Whether the peer went without a goodbye.
  var peerHasDied: Bool { death.load(ordering: .relaxed) }

  // MARK: Opening

  /// Takes over a connected socket.
  func open(
    _ socket: SequencedSocket, events: EventChannel,
    answerDeadline: MonotonicTime?
  ) throws(Errno) {
    let raw = socket.descriptor.rawValue
    number.store(raw, ordering: .releasing)
    state.withLock { state in
      state.socket = socket
      state.events = events
      state.answerDeadline = answerDeadline
    }
    let tag = try events.add(self, descriptor: raw)
    state.withLock { $0.tag = tag }
  }

  func opening(privateData: [UInt8], of queuePair: SharedMemoryQueuePair) -> ControlMessage.Opening
  {
    ControlMessage.Opening(
      segmentAddress: queuePair.ownMapping.address,
      segmentByteCount: queuePair.ownMapping.byteCount, lineCount: queuePair.lineCount,
      isDirect: queuePair.domain.isDirect, queuePairNumber: queuePair.number,
      privateData: privateData)
  }

  /// Becomes connected to the peer that sent `opening` with its segment's descriptor.
  func join(_ opening: ControlMessage.Opening, _ descriptor: consuming Descriptor) throws(Errno) {
    guard let queuePair else { throw Errno.connectionAborted }
    let file = try MemoryFile(received: descriptor, byteCount: opening.segmentByteCount)
    let mapping = try PeerMemory.map(file, .read, near: opening.segmentAddress)
    queuePair.join(
      mapping, lineCount: opening.lineCount,
      isDirect: opening.isDirect && queuePair.domain.isDirect,
      peerNumber: opening.queuePairNumber)
    let raw = number.load(ordering: .relaxed)
    queuePair.receiveCompletionQueue.watch(raw, number: queuePair.number)
    if queuePair.sendCompletionQueue !== queuePair.receiveCompletionQueue {
      queuePair.sendCompletionQueue.watch(raw, number: queuePair.number)
    }
  }

  // MARK: Telling the peer

  func send(_ message: ControlMessage, descriptor: CInt? = nil) {
    var announces: UInt64?
    if case .segment(let address, _, _) = message, address != 0 { announces = address }
    let isStuck = state.withLock { state in
      state.unsent.append(
        Unsent(bytes: message.bytes, descriptor: descriptor, announces: announces))
      Self.flush(&state)
      guard state.unsent.count > Self.unsentLimit else { return false }
      state.unsent.removeAll()
      return true
    }
    if isStuck { queuePair?.fail(.failure("the peer does not read its socket")) }
  }

  private static func flush(_ state: inout State) {
    guard let socket = state.socket else { return }
    while let message = state.unsent.first {
      do throws(Errno) {
        try socket.send(message.bytes, descriptors: message.descriptor.map { [$0] } ?? [])
      } catch {
        // A full socket is tried again when it next stirs; a broken one hangs up.
        if error != .wouldBlock { state.unsent.removeAll() }
        return
      }
      state.unsent.removeFirst()
    }
  }

  func announce(_ segment: SharedMemoryProtectionDomain.Segment) {
    let region = segment.region
    let isWritable = segment.isOpenToWrites && queuePair?.isDirect == true
    send(
      .segment(
        address: region.address, byteCount: UInt64(wholePages(region.byteCount)),
        use: isWritable ? .writable : .readable),
      descriptor: segment.file)
  }

  /// Shows a direct peer the keys to what it may write to.
  func announceKeys(_ file: CInt, byteCount: Int) {
    send(.segment(address: 0, byteCount: UInt64(byteCount), use: .keys), descriptor: file)
  }

  /// Takes an announcement back, also one that has not gone out yet: its descriptor is about to
  /// be closed, and the number will mean something else.
  func withdraw(_ region: MemoryRegion) {
    let wasUnsent = state.withLock { state in
      let count = state.unsent.count
      state.unsent.removeAll { $0.announces == region.address }
      return state.unsent.count != count
    }
    if !wasUnsent { send(.withdraw(address: region.address)) }
  }

  func sendGoodbye() {
    let isFirst = state.withLock { state in
      defer { state.saidGoodbye = true }
      return !state.saidGoodbye && state.socket != nil
    }
    if isFirst { send(.goodbye) }
  }

  /// Wakes the peer. Never blocks: when the socket is full the peer has enough to wake up for.
  func ring() {
    let raw = number.load(ordering: .relaxed)
    guard raw >= 0 else { return }
    SequencedSocket.sendByte(7, to: raw)
  }

  // MARK: Hearing the peer

  func ready() { drain() }

  func expire(at now: MonotonicTime) {
    let isLate = state.withLock { state in
      guard let deadline = state.answerDeadline, deadline <= now else { return false }
      state.answerDeadline = nil
      return true
    }
    if isLate { failOpening(.timedOut("expected an answer from the listener in time, got none")) }
  }

  /// Takes everything that the socket holds.
  func drain() {
    guard let queuePair else { return }
    queuePair.remoteWork.withLock { takeAnnouncements(&$0) }
  }

  /// As `drain`, for callers that hold the lock of remote work.
  func takeAnnouncements(_ memory: inout PeerMemory) {
    // More than a socket holds; a peer that never stops sending does not keep this thread.
    var left = 1024
    while left > 0, let (message, descriptor) = next() {
      apply(message, descriptor, &memory)
      left -= 1
    }
    state.withLock { Self.flush(&$0) }
    let isGone = state.withLock { state in
      defer { state.hungUp = false }
      return state.hungUp
    }
    if isGone { peerIsGone() }
  }

  /// The next message, with its descriptor; nil when there is none or the peer is gone.
  private func next() -> (ControlMessage, CInt?)? {
    let failure: String?
    let found: (ControlMessage, CInt?)?
    (found, failure) = state.withLock { state in
      guard let socket = state.socket else { return (nil, nil) }
      return unsafe withUnsafeTemporaryAllocation(
        byteCount: ControlMessage.maximumByteCount, alignment: 8
      ) { raw -> ((ControlMessage, CInt?)?, String?) in
        switch unsafe socket.receive(into: raw) {
        case .nothing: return (nil, nil)
        case .hangUp:
          state.hungUp = true
          return (nil, nil)
        case .datagram(let byteCount, let descriptors, let isTruncated):
          do {
            guard !isTruncated, descriptors.count <= 1 else {
              throw ControlMessage.Malformed.fields
            }
            let view = unsafe WireView(raw.baseAddress!, byteCount: byteCount)
            return ((try ControlMessage(view), descriptors.first), nil)
          } catch {
            for number in descriptors { _ = Descriptor(owning: number) }
            return (nil, "a malformed control message (\(error))")
          }
        }
      }
    }
    if let failure { breakOff(failure) }
    return found
  }

  private func apply(
    _ message: ControlMessage, _ passed: CInt?, _ memory: inout PeerMemory
  ) {
    // Before its answer a listener has nothing else to say, but perhaps a ring.
    let isEarly = state.withLock { $0.answerDeadline != nil } && !message.mayAnswer
    switch (message, passed) {
    case _ where isEarly: misplaced(passed)
    case (.doorbell, nil):
      queuePair?.receiveCompletionQueue.doorbellWasTaken()
      queuePair?.sendCompletionQueue.doorbellWasTaken()
    case (.segment(let address, let byteCount, let use), let file?):
      let file = Descriptor(owning: file)
      do {
        guard use == .readable || queuePair?.isDirect == true else { throw Errno.invalidArgument }
        try memory.add(file, address: address, byteCount: byteCount, use: use)
      } catch {
        breakOff("memory that cannot be mapped (\(error))")
      }
    case (.withdraw(let address), nil): memory.remove(address: address)
    case (.goodbye, nil):
      state.withLock { $0.peerSaidGoodbye = true }
      queuePair?.fail(.peer)
    case (.welcome(let opening), let file?): welcomed(opening, Descriptor(owning: file))
    case (.reject(let data), nil):
      guard takeAnswerDeadline() else { return breakOff("an answer out of place") }
      failOpening(.rejected(data))
    default: misplaced(passed)
    }
  }

  private func misplaced(_ passed: CInt?) {
    if let passed { _ = Descriptor(owning: passed) }
    breakOff("a control message out of place")
  }

  private func takeAnswerDeadline() -> Bool {
    state.withLock { state in
      defer { state.answerDeadline = nil }
      return state.answerDeadline != nil
    }
  }

  private func welcomed(_ opening: ControlMessage.Opening, _ file: consuming Descriptor) {
    guard takeAnswerDeadline(), let queuePair else { return breakOff("an answer out of place") }
    do {
      try join(opening, file)
    } catch {
      return failOpening(.system(error, doing: "mapping the listener's memory"))
    }
    queuePair.domain.attach(queuePair)
    let events = state.withLock { $0.events }
    events?.post(.established(queuePair, privateData: opening.privateData))
  }

  // MARK: Ending

  private func failOpening(_ error: ConnectError) {
    guard let queuePair else { return }
    queuePair.fail(.failure("not connected"))
    let events = state.withLock { $0.events }
    events?.post(.failed(queuePair, error))
    forget()
    // The listener, should it answer yet, finds nobody.
    hangUp()
  }

  private func breakOff(_ words: String) {
    if takeAnswerDeadline() {
      return failOpening(
        .protocolMismatch("expected a listener of this fabric, but it sent \(words)"))
    }
    sendGoodbye()
    queuePair?.fail(.failure("the peer sent \(words)"))
  }

  private func peerIsGone() {
    forget()
    if takeAnswerDeadline() {
      return failOpening(
        .unreachable("the listener hung up without an answer: is its process still running?"))
    }
    let saidGoodbye = state.withLock { $0.peerSaidGoodbye }
    if !saidGoodbye { death.store(true, ordering: .relaxed) }
    queuePair?.fail(saidGoodbye ? .peer : .peerDied)
  }

  /// Announces the end of an established connection.
  func ended(_ reason: DisconnectReason, wasConnected: Bool) {
    guard wasConnected, let queuePair else { return }
    let events = state.withLock { $0.events }
    events?.post(.disconnected(queuePair, reason))
    if case .failure = reason { sendGoodbye() }
  }

  /// Stops listening to a socket that has no more to say, so that nobody wakes up for it.
  private func forget() {
    let raw = number.load(ordering: .relaxed)
    let (events, tag) = state.withLock { ($0.events, $0.tag) }
    events?.remove(tag: tag, descriptor: raw)
    queuePair?.receiveCompletionQueue.unwatch(raw)
    queuePair?.sendCompletionQueue.unwatch(raw)
  }

  func close() {
    let raw = number.load(ordering: .relaxed)
    guard raw >= 0 else { return }
    forget()
    hangUp()
    state.withLock { $0.events = nil }
  }

  /// Ends the socket as the kernel does when a process dies: without a goodbye.
  func hangUp() { SequencedSocket.shutDown(number.load(ordering: .relaxed)) }
}
