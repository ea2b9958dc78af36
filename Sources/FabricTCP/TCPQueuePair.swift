import CFabricLinux
import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import FabricVerbs
import Synchronization

/// One end of an iWARP connection.
///
/// The initiator composes FPDUs and hands them to the socket at the post; what there is no room for
/// goes out when a completion queue is polled. The target reads the socket when its receive
/// completion queue is polled, checks what came and places it. What each message uses is a constant
/// of this class itself: then its use counts no references.
///
/// Locks: `receiving` before `transmitting`.
@safe
final class TCPQueuePair: QueuePair, @unchecked Sendable {
  let number: UInt32
  private let living: LivingQueuePairs
  let domain: TCPProtectionDomain
  let localKeys: RemoteKeyTable
  let remoteKeys: RemoteKeyTable
  let sendCompletionQueue: TCPCompletionQueue
  let receiveCompletionQueue: TCPCompletionQueue
  let receiveQueue: ReceiveQueue
  let usesSharedReceiveQueue: Bool
  let sendMember: CompletionQueueMember
  /// The same where both queues have one completion queue.
  let receiveMember: CompletionQueueMember

  private let stateWord = Atomic<UInt8>(QueuePairState.initialized.rawValue)
  /// The end of the connection, announced once.
  private let link = Mutex(Link())

  struct Link {
    var socket: StreamSocket?
    var events: EventChannel?
    /// Given back with the connection.
    var ticket: AddressTicket?
  }

  // The send queue. Counts of requests since the beginning:
  let sendCapacity: Int
  let entryMask: Int
  let entries: UnsafeMutablePointer<SendEntry>
  /// Posted; by the poster, under `transmitting`.
  let postedCount = Atomic<UInt64>(0)
  /// Handed to the socket; under `transmitting`.
  let sentCount = Atomic<UInt64>(0)
  /// Ended and told; by the polling thread of the send completion queue.
  let retiredCount = Atomic<UInt64>(0)
  /// RDMA reads among them: sent, and answered.
  let readsIssued = Atomic<UInt64>(0)
  let readsAnswered = Atomic<UInt64>(0)
  var readsRetired: UInt64 = 0
  var hasReportedFailure = false
  /// How the oldest unanswered read ends when the peer has refused it.
  let readFailure = Atomic<UInt8>(WorkCompletionStatus.flushed.rawValue)

  /// Guards `output`.
  let transmitting = FutexLock()
  let output: Output
  let train: OutputTrain
  /// Work for `transmit` when a completion queue is polled.
  let hasOutput = Atomic<Bool>(false)

  /// Guards `inbound`, and the placement of bytes: whoever has revoked a key takes it once, and
  /// every older use of the key is over.
  let receiving = FutexLock()
  let inbound: Inbound
  let receiver = StreamReceiver()
  /// The completion queue's; under `receiving` as well.
  let input: InputBuffer
  /// The socket may have something to read.
  let mayHaveInput = Atomic<Bool>(false)
  /// The kernel has told of the stream's end, which it does once: it is read up to there.
  let mayHaveEnded = Atomic<Bool>(false)
  // Hardly looked at; what each message touches lies before it.
  let options: TCPOptions

  init(
    number: UInt32, options: TCPOptions, living: LivingQueuePairs, domain: TCPProtectionDomain,
    sendCompletionQueue: TCPCompletionQueue, receiveCompletionQueue: TCPCompletionQueue,
    receiveQueue: ReceiveQueue, usesSharedReceiveQueue: Bool, sendCapacity: Int
  ) {
    self.number = number
    self.options = options
    self.living = living
    self.domain = domain
    localKeys = domain.keys.local
    remoteKeys = domain.keys.remote
    self.sendCompletionQueue = sendCompletionQueue
    self.receiveCompletionQueue = receiveCompletionQueue
    self.receiveQueue = receiveQueue
    self.usesSharedReceiveQueue = usesSharedReceiveQueue
    self.sendCapacity = sendCapacity
    let slots = nextPowerOfTwo(sendCapacity)
    entryMask = slots - 1
    unsafe entries = .allocate(capacity: slots)
    output = Output(entryCount: slots)
    train = OutputTrain(memory: sendCompletionQueue.trainMemory)
    inbound = Inbound()
    input = receiveCompletionQueue.input
    let isShared = sendCompletionQueue === receiveCompletionQueue
    sendMember = CompletionQueueMember(
      number: number, in: sendCompletionQueue, sends: true, receives: isShared)
    receiveMember =
      isShared
      ? sendMember
      : CompletionQueueMember(
        number: number, in: receiveCompletionQueue, sends: false, receives: true)
    attach()
    domain.attach(self)
    living.add(self)
  }

  deinit { unsafe entries.deallocate() }

  // MARK: Completion queues

  private var receivePossible: Int { usesSharedReceiveQueue ? 0 : receiveQueue.capacity }

  private func attach() {
    if sendMember === receiveMember {
      sendCompletionQueue.attach(sendMember, of: self, possible: sendCapacity + receivePossible)
    } else {
      sendCompletionQueue.attach(sendMember, of: self, possible: sendCapacity)
      receiveCompletionQueue.attach(receiveMember, of: self, possible: receivePossible)
    }
  }

  private func detach() {
    if sendMember === receiveMember {
      sendCompletionQueue.detach(sendMember, of: self, possible: sendCapacity + receivePossible)
    } else {
      sendCompletionQueue.detach(sendMember, of: self, possible: sendCapacity)
      receiveCompletionQueue.detach(receiveMember, of: self, possible: receivePossible)
    }
  }

  /// Requests that a member's queues hold.
  func outstandingCount(for member: CompletionQueueMember) -> Int {
    let sends = postedCount.load(ordering: .relaxed) &- retiredCount.load(ordering: .relaxed)
    return (member.sends ? Int(truncatingIfNeeded: sends) : 0)
      + (member.receives && !usesSharedReceiveQueue ? receiveQueue.count : 0)
  }

  /// Whether polling this member's part would do anything.
  func hasWork(for member: CompletionQueueMember) -> Bool {
    if hasOutput.load(ordering: .sequentiallyConsistent) { return true }
    if member.receives && hasInboundWork { return true }
    return member.sends && hasEndedSends
  }

  /// A look at one queue pair: output that waits, then input, then the ends of sends.
  func poll(
    _ member: CompletionQueueMember, into completions: inout MutableSpan<WorkCompletion>,
    from start: Int
  ) -> Int {
    var count = start
    if hasOutput.load(ordering: .acquiring) {
      transmitAgain()
    } else if output.hasSentSincePoll.load(ordering: .relaxed) {
      output.hasSentSincePoll.store(false, ordering: .relaxed)
    }
    if member.receives { count = receive(into: &completions, from: count) }
    // Several messages make several answers: they wait for each other until the next poll.
    if count &- start > 1 { output.hasSentSincePoll.store(true, ordering: .relaxed) }
    if member.sends { count = retireSends(into: &completions, from: count) }
    return count
  }

  /// The socket is to be read at the next poll.
  func expectInput() {
    mayHaveInput.store(true, ordering: .relaxed)
    if output.isBlocked.load(ordering: .relaxed) { hasOutput.store(true, ordering: .relaxed) }
  }

  func raise() {
    sendMember.raise()
    if receiveMember !== sendMember { receiveMember.raise() }
  }

  // MARK: State

  var state: QueuePairState {
    @inline(__always) get { QueuePairState(rawValue: stateWord.load(ordering: .acquiring))! }
  }

  /// Goes from one state to another; false when it was not in the first.
  func transition(from old: QueuePairState, to new: QueuePairState) -> Bool {
    stateWord.compareExchange(
      expected: old.rawValue, desired: new.rawValue, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// Takes over a socket whose start-up is over; false when the queue pair has ended meanwhile.
  ///
  /// - Parameter early: what has come behind the start-up.
  func join(
    _ socket: StreamSocket, _ agreement: StartUp.Agreement, early: [UInt8],
    ticket: AddressTicket?, events: EventChannel
  ) -> Bool {
    link.withLock { $0 = Link(socket: socket, events: events, ticket: ticket) }
    receiving.withLock {
      receiver.begin(StreamReceiver.Options(agreement, options))
      inbound.begin(socket, agreement, early: early)
    }
    transmitting.withLock {
      train.begin(checksums: agreement.usesChecksums, markers: agreement.sendsMarkers)
      output.begin(
        socket, agreement,
        segmentByteCount: min(
          options.segmentByteCount, train.segmentLimit - SegmentHeader.untaggedByteCount))
    }
    // Pairs with the acquire in `state`: whoever sees the state sees the socket.
    guard transition(from: .readyToReceive, to: .readyToSend) else { return false }
    do {
      try receiveCompletionQueue.watch(socket.number, number: number)
      if sendCompletionQueue !== receiveCompletionQueue {
        try sendCompletionQueue.watch(socket.number, number: number)
      }
    } catch {
      fail(.failure("watching a socket failed: \(error)"))
    }
    expectInput()
    transmitNow()
    raise()
    return true
  }

  // MARK: Ending

  /// Enters the error state; the first caller's reason is announced.
  func fail(_ reason: DisconnectReason) {
    let old = stateWord.exchange(QueuePairState.error.rawValue, ordering: .acquiringAndReleasing)
    guard old != QueuePairState.error.rawValue else { return }
    let link = takeLink()
    if let socket = link.socket {
      receiveCompletionQueue.unwatch(number: number)
      sendCompletionQueue.unwatch(number: number)
      socket.endInOrder()
      if reason != .peer && reason != .peerDied, let events = link.events {
        // Closing with something unread would reset the connection, and the peer lose what it
        // has not read yet.
        LingeringSocket.wait(on: socket, ticket: link.ticket, events: events)
      }
    }
    if old == QueuePairState.readyToSend.rawValue {
      link.events?.post(.disconnected(self, reason))
    }
    raise()
  }

  /// The connection's parts, for the last time: an event that nobody polls any more keeps the queue
  /// pair, which must not keep the event channel in turn. The socket stays open as long as this
  /// object: other threads may still name it by its number.
  private func takeLink() -> Link {
    link.withLock { link in
      defer { link = Link(socket: link.socket) }
      return link
    }
  }

  func disconnect() { fail(.local) }

  func destroy() {
    fail(.local)
    _ = takeLink()
    detach()
    domain.detach(self)
    living.remove(self)
  }

  /// Ends the connection as the death of the process does.
  func hangUp() {
    link.withLock { $0.socket }?.reset()
    stateWord.store(QueuePairState.error.rawValue, ordering: .releasing)
  }

  /// Returns when no placement that began before is still under way.
  func waitForPlacement() { receiving.withLock {} }
}
