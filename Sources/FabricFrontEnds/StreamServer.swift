import CFabricLinux
import FabricBounded
import FabricCompletion
import FabricPlatform
import FabricWire

/// Accepts streams and carries them on. Confined to its service's thread.
///
/// A stream that brings something and has few beside it is asked again in every round for a while;
/// of all others the kernel says which have something, so that an idle stream costs nothing.
@safe
final class StreamServer: ProgressSource, TimedSource {
  /// The most bytes that one receive brings, and that a handler may need at once.
  static let inputByteCount = 128 << 10
  /// The most time between the end of this direction and that of the peer's.
  static let endingTime: Duration = .seconds(2)
  /// With so many streams each is asked without word from the kernel.
  private static let directLimit = 2
  /// Fruitless looks after which a stream waits for the kernel's word.
  private static let fullPatience = 1000
  /// So often the service sleeps before it is tried again whether such looks find anything.
  private static let sleepsBetweenTrials = 64
  /// After so many silent answers the kernel is asked less often.
  private static let restlessAskCount = 64
  /// Tags of listeners begin here.
  private static let listenerTag: UInt64 = 1 << 32
  /// Connections taken in one look: a flood does not keep the thread.
  private static let acceptLimit = 64

  let options: FrontEndOptions
  /// Where every stream is received to: behind what it had left, as much again.
  let input: UnsafeMutableRawPointer
  /// What one system call sends.
  let vectors: UnsafeMutablePointer<iovec>
  let tokens = FixedTable<UInt64>(repeating: 0, count: OutputQueue.pieceLimit)
  /// Streams with something to be sent.
  var touched: [UncountedReference<ServedStream>] = []
  private let service: CompletionService
  private let poller: Poller
  private let makeHandler: (ServedStream) -> any StreamHandler
  private let refusals: RefusalLog
  private var listeners: [ListeningSocket] = []
  private var streams = NumberedObjects<ServedStream>()
  private var streamCounts: [[UInt8]: Int] = [:]
  private var nextNumber: UInt32 = 1
  private var active: [UncountedReference<ServedStream>] = []
  private var turns: [UncountedReference<ServedStream>] = []
  private var roundCount: UInt32 = 0
  private var mustAsk = true
  /// The service is about to sleep: the kernel will tell.
  private var isArmed = false
  /// Of a stream that has brought something: looks without word from the kernel. None while they find
  /// nothing before the service sleeps, as where it does not spin.
  private var patience = StreamServer.fullPatience
  /// Looks of that kind that found something since the service slept, and times it slept.
  private var guessHitCount = 0
  private var sleepCount = 0
  /// Something was received that the kernel will still tell of.
  private var hasStaleEdges = false
  /// Times in a row that the kernel was asked and had nothing.
  private var silentAskCount = 0
  private var scratchMemory = FixedTable<UInt64>(repeating: 0, count: 512)
  /// By deadline, earliest first for each kind, as each kind waits equally long.
  private var handshakes = DeadlineQueue()
  private var endings = DeadlineQueue()

  /// - Throws: `.system`.
  init(
    service: CompletionService, options: FrontEndOptions,
    makeHandler: @escaping (ServedStream) -> any StreamHandler
  ) throws(FrontEndError) {
    self.service = service
    self.options = options
    self.makeHandler = makeHandler
    do throws(Errno) {
      poller = try Poller()
    } catch { throw .system("making a descriptor to wait at failed: \(error)") }
    unsafe vectors = .allocate(capacity: OutputQueue.pieceLimit)
    unsafe input = .allocate(byteCount: 2 * Self.inputByteCount, alignment: 4096)
    refusals = RefusalLog(service, log: options.log)
  }

  deinit {
    unsafe input.deallocate()
    unsafe vectors.deallocate()
  }

  /// Takes memory that may be written and is never sent.
  func scratch(_ byteCount: Int) -> WireBuffer {
    if byteCount > scratchMemory.count * 8 {
      scratchMemory = FixedTable(repeating: 0, count: byteCount / 8 + 1)
    }
    return unsafe WireBuffer(UnsafeMutableRawPointer(scratchMemory.address), byteCount: byteCount)
  }

  // MARK: Listening

  func listen(at addresses: [StreamAddress]) throws(FrontEndError) {
    for address in addresses {
      let listener = try ListeningSocket.open(at: address)
      do throws(Errno) {
        try poller.add(listener.socket.number, tag: Self.listenerTag + UInt64(listeners.count))
      } catch {
        listener.removePath()
        throw .listening(address: "\(address)", reason: "watching a socket failed: \(error)")
      }
      listeners.append(listener)
    }
    service.add(self as any ProgressSource)
    service.add(self as any TimedSource)
    service.add(refusals)
  }

  var addresses: [StreamAddress] { listeners.map(\.address) }
  var streamCount: Int { streams.count }

  /// Takes nobody any more and removes the paths of Unix sockets.
  func stopListening() {
    for listener in listeners {
      poller.remove(listener.socket.number)
      listener.removePath()
    }
    listeners = []
  }

  /// Resets every stream.
  func resetAll() {
    var all: [ServedStream] = []
    streams.forEach { all.append($0) }
    for stream in all { stream.end(.reset) }
  }

  func leaveService() {
    service.remove(self as any ProgressSource)
    service.remove(self as any TimedSource)
    service.remove(refusals)
  }

  /// Peers that keep buffers from others, and what they have moved.
  func forEachDebtor(_ body: (_ number: UInt32, _ movedByteCount: UInt64) -> Void) {
    streams.forEach { if $0.isDebtor { body($0.number, $0.movedByteCount) } }
  }

  func end(_ number: UInt32, because reason: StreamEnd) {
    streams.find(number)?.object.end(reason)
  }

  private func accept(at listener: ListeningSocket) {
    for _ in 0..<Self.acceptLimit {
      do throws(Errno) {
        guard let (socket, peer) = try listener.accept() else { return }
        admit(socket, of: peer, at: listener)
      } catch {
        poller.remove(listener.socket.number)
        let now = MonotonicTime.now
        listener.pauseEnd = now + .milliseconds(100)
        service.deadlinesHaveChanged()
        if let words = listener.pause.begin(at: now, because: error) { options.log(words) }
        return
      }
    }
    mustAsk = true
  }

  private func admit(_ socket: StreamSocket, of peer: StreamPeer, at listener: ListeningSocket) {
    let origin = peer.origin
    if let limit = exceededLimit(origin) {
      // One that says nothing makes room for one that may.
      guard makeRoom(of: limit == options.connections ? nil : origin) else {
        socket.reset()
        return refusals.refused(
          "refused \(peer): it would be more than the \(limit) connections that may be at once")
      }
    }
    let number = nextNumber
    nextNumber = nextNumber == .max ? 1 : nextNumber + 1
    let stream = ServedStream(
      number: number, socket: socket, peer: peer, at: listener.address, server: self)
    do throws(Errno) {
      try poller.addEdges(socket.number, tag: UInt64(number))
    } catch {
      socket.reset()
      return refusals.refused("refused \(peer): watching its socket failed: \(error)")
    }
    if case .internet = peer { socket.prepare(silence: options.silence) }
    streams.set(stream, of: number)
    streamCounts[origin, default: 0] += 1
    let deadline = MonotonicTime.now + options.handshakeTimeout
    stream.deadline = deadline
    handshakes.prune { streams.find($0)?.object.isKnown ?? true }
    handshakes.add(number, at: deadline)
    service.deadlinesHaveChanged()
    stream.handler = makeHandler(stream)
    activate(stream)
  }

  private func exceededLimit(_ origin: [UInt8]) -> Int? {
    if streams.count >= options.connections { return options.connections }
    let count = streamCounts[origin, default: 0]
    return count >= options.connectionsPerOrigin ? options.connectionsPerOrigin : nil
  }

  /// Ends the oldest peer that has not made itself known. False when there is none.
  private func makeRoom(of origin: [UInt8]?) -> Bool {
    for number in handshakes.numbers {
      guard let stream = streams.find(number)?.object, !stream.isKnown, stream.state == .open,
        origin == nil || stream.peer.origin == origin
      else { continue }
      stream.end(.handshakeTimeout)
      return true
    }
    return false
  }

  // MARK: Rounds

  func progress() -> Int {
    roundCount &+= 1
    if mustAsk || (!isArmed && isTimeToAsk) { ask() }
    var count = 0
    if !active.isEmpty {
      swap(&active, &turns)
      var index = 0
      while index < turns.count {
        turns[index].with { $0.isActive = false }
        index &+= 1
      }
      index = 0
      while index < turns.count {
        if turns[index].with({ giveTurn($0) }) { count &+= 1 }
        index &+= 1
      }
      turns.removeAll(keepingCapacity: true)
    }
    if !touched.isEmpty { flushTouched() }
    return count
  }

  /// - Returns: whether the stream had anything.
  private func giveTurn(_ stream: ServedStream) -> Bool {
    if stream.isBlocked { stream.flush() }
    let isGuess = !stream.mayHaveInput
    let hasDone = stream.hasWork && stream.turn()
    if hasDone {
      if isGuess {
        guessHitCount &+= 1
        hasStaleEdges = true
      }
      stream.eagerness = streams.count <= Self.directLimit ? patience : 0
    }
    // Without word from the kernel, for a while.
    stream.isEager = stream.eagerness > 0 && !isArmed
    if stream.isEager { stream.eagerness &-= 1 }
    if stream.hasWork { activate(stream) }
    return hasDone
  }

  /// While the few streams that there are are asked anyway, or nothing has come for long, the kernel
  /// is asked now and then.
  private var isTimeToAsk: Bool {
    if silentAskCount >= Self.restlessAskCount { return roundCount & 15 == 0 }
    if streams.count > Self.directLimit { return true }
    return roundCount & (active.isEmpty ? 3 : 31) == 0
  }

  /// Sends what was queued, each stream's with one system call.
  func flushTouched() {
    var index = 0
    // Handlers that are told of what is out may queue more.
    while index < touched.count {
      touched[index].with { stream in
        stream.isTouched = false
        if !stream.isBlocked { stream.flush() }
      }
      index &+= 1
    }
    touched.removeAll(keepingCapacity: true)
  }

  /// Asks the kernel which sockets have something.
  private func ask() {
    mustAsk = false
    hasStaleEdges = false
    silentAskCount &+= 1
    poller.takeEdges(prepare: { _ in }) { tag, hasEnded in
      silentAskCount = 0
      if tag >= Self.listenerTag {
        let index = Int(tag - Self.listenerTag)
        if index < listeners.count { accept(at: listeners[index]) }
      } else {
        streams.find(UInt32(truncatingIfNeeded: tag))?.with { stream in
          stream.mayHaveInput = true
          if hasEnded { stream.endIsNear = true }
          activate(stream)
        }
      }
    }
  }

  func activate(_ stream: ServedStream) {
    if stream.isActive || stream.state == .closed { return }
    stream.isActive = true
    active.append(UncountedReference(stream))
  }

  /// The stream has ended; it lives until the round is over.
  func forget(_ stream: ServedStream) {
    service.keepToRoundEnd(stream)
    poller.remove(stream.socket.number)
    active.removeAll { $0.refers(to: stream) }
    if stream.isTouched { touched.removeAll { $0.refers(to: stream) } }
    streams.remove(stream.number)
    let origin = stream.peer.origin
    let count = streamCounts[origin, default: 1]
    streamCounts[origin] = count == 1 ? nil : count - 1
  }

  // MARK: Sleep

  var descriptor: CInt? { poller.descriptor.rawValue }

  func arm() {
    isArmed = true
    // They would wake the service for nothing.
    if hasStaleEdges { ask() }
    var index = 0
    while index < active.count {
      active[index].with { $0.isEager = false }
      index &+= 1
    }
    sleepCount &+= 1
    let isTrial = sleepCount % Self.sleepsBetweenTrials == 0
    patience = guessHitCount > 0 || isTrial ? Self.fullPatience : 0
    guessHitCount = 0
  }

  func disarm() {
    isArmed = false
    mustAsk = true
  }

  // MARK: Time

  /// Ends a stream that is closing when the time has come.
  func await(_ stream: ServedStream, until deadline: MonotonicTime) {
    stream.deadline = deadline
    endings.add(stream.number, at: deadline)
    service.deadlinesHaveChanged()
  }

  var nextDeadline: MonotonicTime? {
    let pauses = listeners.compactMap(\.pauseEnd)
    return ([handshakes.first, endings.first].compactMap { $0 } + pauses).min()
  }

  func progress(at now: MonotonicTime) -> Int {
    var count = 0
    while let number = handshakes.next(at: now) {
      guard let stream = streams.find(number)?.object, !stream.isKnown else { continue }
      stream.end(.handshakeTimeout)
      count += 1
    }
    while let number = endings.next(at: now) {
      streams.find(number)?.object.end(.closed)
      count += 1
    }
    for (index, listener) in listeners.enumerated() {
      guard let end = listener.pauseEnd, end <= now else { continue }
      listener.pauseEnd = nil
      _ = listener.pause.isOver(at: now)
      do throws(Errno) {
        try poller.add(listener.socket.number, tag: Self.listenerTag + UInt64(index))
      } catch { listener.pauseEnd = now + .milliseconds(100) }
      count += 1
    }
    return count
  }
}
