import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// A queue pair whose peer is another process of this machine.
///
/// Each side writes only its own segment. The initiator writes records into its ring; the target
/// carries them out when its completion queue is polled, checking a private copy of each against
/// its own keys, and publishes how far it has come in its own segment.
@safe
final class SharedMemoryQueuePair: QueuePair, @unchecked Sendable {
  let number: UInt32
  let domain: SharedMemoryProtectionDomain
  /// The domain's, at hand for each request.
  let remoteKeys: RemoteKeyTable
  let sendCompletionQueue: SharedMemoryCompletionQueue
  let receiveCompletionQueue: SharedMemoryCompletionQueue
  /// Holds receives: the queue pair's own or a shared one.
  let receiveQueue: ReceiveQueue
  let usesSharedReceiveQueue: Bool

  // The segment that this side owns.
  let ownFile: MemoryFile
  let ownMapping: Mapping
  let own: QueueSegment
  let lineCount: Int

  // The peer's, set once before the state becomes ready to receive.
  private var peerMapping: Mapping?
  var peer: QueueSegment
  /// Whether both sides write straight into each other's memory.
  private(set) var isDirect = false
  /// The peer's own number, as its keys name it.
  private(set) var peerNumber: UInt32 = 0
  let connection: Connection
  /// Guards `peerMemory` and the carrying out of remote work: whoever has revoked a key takes it
  /// once, and every older use of the key is over.
  let remoteWork = Mutex(PeerMemory())

  private let stateWord = Atomic<UInt8>(QueuePairState.initialized.rawValue)
  /// Set with the error state when the peer left: what it had sent before is still received.
  let drainsPeer = Atomic<Bool>(false)

  // The send queue: the poster's part, the poller's part, and entries between them.
  let sendCapacity: Int
  let nextPowerOfTwoCapacity: Int
  var hasReportedFailure = false
  /// What the peer last said to have consumed, and that it said what cannot be.
  var seenConsumedLines: UInt64 = 0
  var hasRefusedClaim = false
  let sendEntries: UnsafeMutablePointer<SendEntry>
  let readEntries: UnsafeMutablePointer<ReadEntry>
  var producedLines: UInt64 = 0
  var knownConsumedLines: UInt64 = 0
  var postedCount: UInt64 = 0
  let publishedCount = Atomic<UInt64>(0)
  let retiredCount = Atomic<UInt64>(0)
  /// Signalled requests and reads, which somebody waits for: posted, by the poster; ended, by the
  /// poller.
  let signaledCount = Atomic<UInt64>(0)
  var retiredSignaledCount: UInt64 = 0
  var lastRungForReceives: UInt32 = 0
  /// Regions that the peer was shown.
  private let announced = Mutex<Set<LocalKey>>([])
  /// Some of them, for the poster: by the low bits of their keys.
  let shownKeys: UnsafeMutablePointer<LocalKey>
  static let shownKeyCount = 8
  /// By the poster and by the poller.
  var readsPosted: UInt64 = 0
  let readsFetchedWord = Atomic<UInt64>(0)
  var readsFetched: UInt64 { readsFetchedWord.load(ordering: .acquiring) }

  // As a target: how far this side is with the peer's ring.
  var consumedLines: UInt64 = 0
  var readsPassed: UInt64 = 0
  var lastRungForSends: UInt32 = 0
  /// How often a message found no receive; a channel with credits keeps it at 0.
  let receiverNotReadyCount = Atomic<UInt64>(0)
  var isWaitingForReceive = false

  init(
    number: UInt32, domain: SharedMemoryProtectionDomain,
    sendCompletionQueue: SharedMemoryCompletionQueue,
    receiveCompletionQueue: SharedMemoryCompletionQueue, receiveQueue: ReceiveQueue,
    usesSharedReceiveQueue: Bool, sendCapacity: Int
  ) throws(Errno) {
    self.number = number
    self.domain = domain
    remoteKeys = domain.remoteKeys
    self.sendCompletionQueue = sendCompletionQueue
    self.receiveCompletionQueue = receiveCompletionQueue
    self.receiveQueue = receiveQueue
    self.usesSharedReceiveQueue = usesSharedReceiveQueue
    self.sendCapacity = sendCapacity
    // Room for the longest records, for padding at the end and for the cleared word behind.
    lineCount = nextPowerOfTwo(Record.maximumLineCount * sendCapacity + 8)
    let byteCount = QueueSegment.byteCount(lineCount: lineCount)
    let file = try MemoryFile(name: "fabric-queue", byteCount: byteCount)
    ownMapping = try file.map(.readWrite)
    try file.sealWrites()
    ownFile = file
    own = QueueSegment(ownMapping, lineCount: lineCount)
    peer = own
    connection = Connection()
    nextPowerOfTwoCapacity = nextPowerOfTwo(sendCapacity)
    unsafe sendEntries = .allocate(capacity: nextPowerOfTwoCapacity)
    unsafe readEntries = .allocate(capacity: nextPowerOfTwoCapacity)
    unsafe shownKeys = .allocate(capacity: Self.shownKeyCount)
    unsafe shownKeys.initialize(repeating: LocalKey(rawValue: 0), count: Self.shownKeyCount)
    connection.queuePair = self
    attachToCompletionQueues()
  }

  deinit {
    unsafe sendEntries.deallocate()
    unsafe readEntries.deallocate()
    unsafe shownKeys.deallocate()
  }

  private func attachToCompletionQueues() {
    let receiveCapacity = usesSharedReceiveQueue ? 0 : receiveQueue.capacity
    if sendCompletionQueue === receiveCompletionQueue {
      sendCompletionQueue.attach(self, sends: sendCapacity, receives: receiveCapacity)
    } else {
      sendCompletionQueue.attach(self, sends: sendCapacity, receives: nil)
      receiveCompletionQueue.attach(self, sends: nil, receives: receiveCapacity)
    }
  }

  /// Lines of the peer's ring.
  var lineCountOfPeer: Int { peer.lineMask &+ 1 }

  var state: QueuePairState {
    @inline(__always) get { QueuePairState(rawValue: stateWord.load(ordering: .acquiring))! }
  }

  /// Ties the queue pair to its peer's segment, and makes it ready to send; once.
  func join(_ mapping: Mapping, lineCount: Int, isDirect: Bool, peerNumber: UInt32) {
    peerMapping = mapping
    peer = QueueSegment(mapping, lineCount: lineCount)
    self.isDirect = isDirect
    self.peerNumber = peerNumber
    // Pairs with the acquire in `state`: whoever sees the state sees the peer.
    stateWord.store(QueuePairState.readyToSend.rawValue, ordering: .releasing)
  }

  /// Goes from one state to another; false when it was not in the first.
  func transition(from old: QueuePairState, to new: QueuePairState) -> Bool {
    stateWord.compareExchange(
      expected: old.rawValue, desired: new.rawValue, ordering: .acquiringAndReleasing
    ).exchanged
  }

  /// Enters the error state; the first caller's reason is announced.
  func fail(_ reason: DisconnectReason) {
    if reason == .peer || reason == .peerDied {
      drainsPeer.store(true, ordering: .relaxed)
    }
    let old = stateWord.exchange(
      QueuePairState.error.rawValue, ordering: .acquiringAndReleasing)
    guard old != QueuePairState.error.rawValue else { return }
    connection.ended(reason, wasConnected: old == QueuePairState.readyToSend.rawValue)
  }

  func disconnect() {
    connection.sendGoodbye()
    fail(.local)
  }

  func destroy() {
    disconnect()
    sendCompletionQueue.detach(self)
    if receiveCompletionQueue !== sendCompletionQueue { receiveCompletionQueue.detach(self) }
    domain.detach(self)
    connection.close()
  }

  /// Returns when no remote work that began before is still under way: this side's own copies, and
  /// those of a direct peer, which does not begin another with a key that it finds gone.
  func waitForRemoteWork() {
    remoteWork.withLock { _ in }
    guard isDirect, state == .readyToSend else { return }
    // The peer stores `copying` and then reads the key without a fence: this is its fence.
    MemoryBarrier.global()
    let deadline = MonotonicTime.now + .seconds(1)
    while peer.copying.loadAcquiring() != 0 {
      guard MonotonicTime.now < deadline, state == .readyToSend else {
        return fail(.failure("the peer did not stop writing to memory taken away from it"))
      }
      spinHint()
    }
  }

  func announce(_ segment: SharedMemoryProtectionDomain.Segment) {
    let isNew = announced.withLock { $0.insert(segment.region.localKey).inserted }
    if isNew { connection.announce(segment) }
  }

  func withdraw(_ region: MemoryRegion) {
    let wasAnnounced = announced.withLock { $0.remove(region.localKey) != nil }
    if wasAnnounced { connection.withdraw(region) }
  }
}
