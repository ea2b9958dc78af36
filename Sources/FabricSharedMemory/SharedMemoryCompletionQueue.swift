import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Gathers the ends of work from its queue pairs when it is polled: the records themselves are
/// the queue, so nothing can overflow.
@safe
final class SharedMemoryCompletionQueue: CompletionQueue, @unchecked Sendable {
  /// One queue pair's part in this completion queue.
  @safe
  struct Member: @unchecked Sendable {
    /// Kept alive by `polled`: no reference is counted in a poll.
    let queuePair: Unmanaged<SharedMemoryQueuePair>
    let sends: Bool
    let receives: Bool
  }
  private struct Roster {
    var members: [(queuePair: SharedMemoryQueuePair, member: Member)] = []
  }

  let admission: CompletionAdmission
  private let poller: Poller
  /// Makes the descriptor readable again when somebody else took a doorbell off a socket.
  private let wakeUp: EventDescriptor
  private let roster = Mutex(Roster())
  /// Counts changes of the roster; the polling thread copies it when this has moved.
  private let rosterVersion = Atomic<UInt64>(0)

  // The polling thread's own.
  private var seenVersion: UInt64 = 0
  private var polled: [(queuePair: SharedMemoryQueuePair, member: Member)] = []
  private var members: [Member] = []
  private var nextMember = 0
  private let isArmed = Atomic<Bool>(false)

  init(capacity: Int) throws(Errno) {
    admission = CompletionAdmission(capacity: capacity)
    poller = try Poller()
    wakeUp = try EventDescriptor()
    // Queue pairs' numbers begin at 1.
    try poller.add(wakeUp.descriptor.rawValue, tag: 0)
  }

  var capacity: Int { admission.capacity }
  var descriptor: CInt? { poller.descriptor.rawValue }

  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    refresh()
    let memberCount = members.count
    guard memberCount > 0 else { return 0 }
    var count = 0
    var index = nextMember < memberCount ? nextMember : 0
    for _ in 0..<memberCount {
      let member = members[index]
      index &+= 1
      if index == memberCount { index = 0 }
      if member.receives {
        count = unsafe member.queuePair._withUnsafeGuaranteedRef {
          $0.receive(into: &completions, from: count)
        }
      }
      if member.sends {
        count = unsafe member.queuePair._withUnsafeGuaranteedRef {
          $0.retireSends(into: &completions, from: count)
        }
      }
      if count == completions.count { break }
    }
    nextMember = index
    return count
  }

  private func refresh() {
    let version = rosterVersion.load(ordering: .acquiring)
    guard version != seenVersion else { return }
    polled = roster.withLock { $0.members }
    members = polled.map(\.member)
    seenVersion = version
    nextMember = 0
  }

  func arm() {
    refresh()
    isArmed.store(true, ordering: .relaxed)
    for (queuePair, member) in polled {
      if member.receives { queuePair.armReceives(true) }
      if member.sends { queuePair.armSends(true) }
    }
    // The peers read the armed words without a fence of their own: this is their fence. (SM-45)
    MemoryBarrier.global()
  }

  func disarm() {
    guard isArmed.load(ordering: .relaxed) else { return }
    isArmed.store(false, ordering: .relaxed)
    for (queuePair, member) in polled {
      if member.receives { queuePair.armReceives(false) }
      if member.sends { queuePair.armSends(false) }
    }
    let members = polled
    poller.wait(timeout: .zero) { tag in
      if tag == 0 { wakeUp.clear() }
      for (queuePair, _) in members where UInt64(queuePair.number) == tag {
        queuePair.connection.drain()
      }
    }
  }

  /// A doorbell was taken off a socket outside `disarm`, by the event channel, say: whoever is
  /// about to wait for the socket would not see it any more.
  func doorbellWasTaken() {
    if isArmed.load(ordering: .relaxed) { wakeUp.signal() }
  }

  // MARK: Members

  func attach(_ queuePair: SharedMemoryQueuePair, sends: Int?, receives: Int?) {
    let member = unsafe Member(
      queuePair: .passUnretained(queuePair), sends: sends != nil, receives: receives != nil)
    roster.withLock { roster in
      roster.members.append((queuePair, member))
      admission.join(possible: (sends ?? 0) + (receives ?? 0)) {
        roster.members.reduce(0) { $0 + $1.queuePair.outstanding(in: $1.member) }
      }
      rosterVersion.add(1, ordering: .releasing)
    }
  }

  func detach(_ queuePair: SharedMemoryQueuePair) {
    roster.withLock { roster in
      guard let index = roster.members.firstIndex(where: { $0.queuePair === queuePair }) else {
        return
      }
      let member = roster.members.remove(at: index).member
      admission.leave(possible: queuePair.possible(in: member)) {
        queuePair.outstanding(in: member)
      }
      rosterVersion.add(1, ordering: .releasing)
    }
  }

  func watch(_ socket: CInt, number: UInt32) {
    try? poller.add(socket, tag: UInt64(number))
  }

  func unwatch(_ socket: CInt) { poller.remove(socket) }
}

extension SharedMemoryQueuePair {
  /// Requests that a member's queues could hold.
  func possible(in member: SharedMemoryCompletionQueue.Member) -> Int {
    (member.sends ? sendCapacity : 0)
      + (member.receives && !usesSharedReceiveQueue ? receiveQueue.capacity : 0)
  }

  /// Requests that a member's queues hold.
  func outstanding(in member: SharedMemoryCompletionQueue.Member) -> Int {
    let sends = publishedCount.load(ordering: .relaxed) &- retiredCount.load(ordering: .relaxed)
    return (member.sends ? Int(truncatingIfNeeded: sends) : 0)
      + (member.receives && !usesSharedReceiveQueue ? receiveQueue.count : 0)
  }

  func armReceives(_ isArmed: Bool) { Self.set(own.armedForReceives, isArmed) }
  func armSends(_ isArmed: Bool) { Self.set(own.armedForSends, isArmed) }

  /// A new value each time, odd when armed, so that the peer rings once for each sleep.
  private static func set(_ word: SharedWord32, _ isArmed: Bool) {
    let value = word.load()
    let isOdd = value & 1 != 0
    guard isOdd != isArmed else { return }
    word.store(value &+ 1)
  }
}
