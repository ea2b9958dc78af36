import FabricPlatform
import FabricVerbs
import Synchronization

/// Gathers the ends of work from its queue pairs when it is polled: the records themselves are
/// the queue, so nothing can overflow.
@safe
final class SharedMemoryCompletionQueue: CompletionQueue, @unchecked Sendable {
  /// One queue pair's part in this completion queue.
  struct Member: @unchecked Sendable {
    unowned(unsafe) let queuePair: SharedMemoryQueuePair
    let sends: Bool
    let receives: Bool
  }
  private struct Roster {
    var members: [(queuePair: SharedMemoryQueuePair, member: Member)] = []
    var reserved = 0
  }

  let capacity: Int
  private let poller: Poller
  private let roster = Mutex(Roster())
  /// Counts changes of the roster; the polling thread copies it when this has moved.
  private let rosterVersion = Atomic<UInt64>(0)
  /// Requests outstanding of queues that found no room for all of their requests when made.
  private let admitted = Atomic<Int>(0)
  private let reservedCount = Atomic<Int>(0)

  // The polling thread's own.
  private var seenVersion: UInt64 = 0
  private var polled: [(queuePair: SharedMemoryQueuePair, member: Member)] = []
  private var nextMember = 0
  private var isArmed = false

  init(capacity: Int) throws(Errno) {
    self.capacity = capacity
    poller = try Poller()
  }

  var descriptor: CInt? { poller.descriptor.rawValue }

  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    refresh()
    let memberCount = polled.count
    guard memberCount > 0 else { return 0 }
    var count = 0
    var index = nextMember < memberCount ? nextMember : 0
    for _ in 0..<memberCount {
      let member = polled[index].member
      index &+= 1
      if index == memberCount { index = 0 }
      if member.receives {
        count = unsafe member.queuePair.receive(into: &completions, from: count)
      }
      if member.sends {
        count = unsafe member.queuePair.retireSends(into: &completions, from: count)
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
    seenVersion = version
    nextMember = 0
  }

  func arm() {
    refresh()
    isArmed = true
    for (queuePair, member) in polled {
      if member.receives { queuePair.armReceives(true) }
      if member.sends { queuePair.armSends(true) }
    }
    // The peers read the armed words without a fence of their own: this is their fence.
    MemoryBarrier.global()
  }

  func disarm() {
    guard isArmed else { return }
    isArmed = false
    for (queuePair, member) in polled {
      if member.receives { queuePair.armReceives(false) }
      if member.sends { queuePair.armSends(false) }
    }
    let members = polled
    poller.wait(timeout: .zero) { tag in
      for (queuePair, _) in members where UInt64(queuePair.number) == tag {
        queuePair.connection.drain()
      }
    }
  }

  // MARK: Members

  func attach(_ queuePair: SharedMemoryQueuePair, sends: Int?, receives: Int?) -> (Bool, Bool) {
    roster.withLock { roster in
      let member = Member(
        queuePair: queuePair, sends: sends != nil, receives: receives != nil)
      roster.members.append((queuePair, member))
      func reserve(_ count: Int?) -> Bool {
        guard let count, admitted.load(ordering: .relaxed) + roster.reserved + count <= capacity
        else { return false }
        roster.reserved += count
        return true
      }
      let reservations = (reserve(sends), reserve(receives))
      reservedCount.store(roster.reserved, ordering: .relaxed)
      rosterVersion.add(1, ordering: .releasing)
      return reservations
    }
  }

  func detach(_ queuePair: SharedMemoryQueuePair) {
    roster.withLock { roster in
      roster.members.removeAll { $0.queuePair === queuePair }
      if queuePair.isSendReserved && queuePair.sendCompletionQueue === self {
        roster.reserved -= queuePair.sendCapacity
      }
      if queuePair.isReceiveReserved && queuePair.receiveCompletionQueue === self {
        roster.reserved -=
          queuePair.usesSharedReceiveQueue ? 0 : queuePair.receiveQueue.capacity
      }
      reservedCount.store(roster.reserved, ordering: .relaxed)
      rosterVersion.add(1, ordering: .releasing)
    }
  }

  func watch(_ socket: CInt, number: UInt32) {
    try? poller.add(socket, tag: UInt64(number))
  }

  func unwatch(_ socket: CInt) { poller.remove(socket) }

  // MARK: Admission

  /// How many of `count` more requests could have their completions held.
  @inline(__always)
  func admit(_ count: Int, isReserved: Bool) -> Int {
    if isReserved { return count }
    let limit = capacity &- reservedCount.load(ordering: .relaxed)
    let before = admitted.add(count, ordering: .relaxed).oldValue
    let granted = max(0, min(count, limit &- before))
    if granted < count { admitted.subtract(count &- granted, ordering: .relaxed) }
    return granted
  }

  @inline(__always)
  func withdrawAdmission(_ count: Int, isReserved: Bool) {
    if !isReserved { admitted.subtract(count, ordering: .relaxed) }
  }
}

extension SharedMemoryQueuePair {
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
