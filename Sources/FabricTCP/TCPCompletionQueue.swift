import FabricPlatform
import FabricVerbs
import Synchronization

/// Reads and writes its queue pairs' sockets when it is polled, and only those that have something.
@safe
final class TCPCompletionQueue: CompletionQueue, @unchecked Sendable {
  /// Up to so many queue pairs are asked each time; of more, the kernel says which have something.
  private static let directLimit = 2

  private struct Roster {
    var members: [UInt32: CompletionQueueMember] = [:]
    /// Kept alive with its queue pair until the polling thread has let go of it.
    var queuePairs: [UInt32: TCPQueuePair] = [:]
    /// Requests that all members' queues could hold together.
    var possible = 0
  }

  let capacity: Int
  let input = InputBuffer()
  private let poller: Poller
  private let wakeUp: EventDescriptor
  private let roster = Mutex(Roster())
  private let rosterVersion = Atomic<UInt64>(0)
  private let raised = Mutex<[CompletionQueueMember]>([])
  private let hasRaised = Atomic<Bool>(false)
  private let isArmed = Atomic<Bool>(false)
  /// Requests outstanding; kept only while the members could post more than `capacity`.
  private let admitted = Atomic<Int>(0)
  private let isCounting = Atomic<Bool>(false)

  // The polling thread's own.
  private var seenVersion: UInt64 = 0
  private var members: [UInt32: CompletionQueueMember] = [:]
  private var queuePairs: [UInt32: TCPQueuePair] = [:]
  private var active: [CompletionQueueMember] = []
  private var taken: [CompletionQueueMember] = []
  private var isDirect = true
  private var next = 0

  init(capacity: Int) throws(Errno) {
    self.capacity = capacity
    poller = try Poller()
    wakeUp = try EventDescriptor()
    // Queue pairs' numbers begin at 1.
    try poller.add(wakeUp.descriptor.rawValue, tag: 0)
  }

  var descriptor: CInt? { poller.descriptor.rawValue }

  // MARK: Polling

  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    refresh()
    if !isDirect { harvest() }
    takeRaised()
    guard !active.isEmpty else { return 0 }
    var count = 0
    var index = next < active.count ? next : 0
    for _ in 0..<active.count {
      let member = active[index]
      if isDirect { unsafe member.queuePair.expectInput() }
      count = unsafe member.queuePair.poll(member, into: &completions, from: count)
      index &+= 1
      if index == active.count { index = 0 }
      if count == completions.count { break }
    }
    next = index
    retireIdle()
    return count
  }

  /// Takes those out of the round that have nothing to do.
  private func retireIdle() {
    var index = 0
    while index < active.count {
      let member = active[index]
      if unsafe isDirect || member.queuePair.hasWork(for: member) {
        index += 1
        continue
      }
      member.lower()
      if unsafe member.queuePair.hasWork(for: member) {
        member.raiseQuietly()
        index += 1
      } else {
        member.isActive = false
        active.swapAt(index, active.count - 1)
        active.removeLast()
      }
    }
  }

  private func refresh() {
    let version = rosterVersion.load(ordering: .acquiring)
    guard version != seenVersion else { return }
    seenVersion = version
    for member in active { member.isActive = false }
    let old = queuePairs
    (members, queuePairs) = roster.withLock { ($0.members, $0.queuePairs) }
    input.forgetOwner(unless: { number in members[number] != nil })
    active = members.values.sorted { $0.number < $1.number }
    for member in active {
      member.isActive = true
      member.raiseQuietly()
      unsafe member.queuePair.expectInput()
    }
    isDirect = members.count <= Self.directLimit
    next = 0
    _ = consume old
  }

  /// Asks the kernel which sockets have something.
  private func harvest() {
    poller.wait(timeout: .zero) { tag in
      if tag == 0 {
        wakeUp.clear()
      } else if let member = members[UInt32(truncatingIfNeeded: tag)] {
        unsafe member.queuePair.expectInput()
        member.raiseQuietly()
        activate(member)
      }
    }
  }

  private func takeRaised() {
    guard hasRaised.load(ordering: .acquiring) else { return }
    raised.withLock { raised in
      hasRaised.store(false, ordering: .relaxed)
      swap(&raised, &taken)
    }
    for member in taken where members[member.number] === member {
      activate(member)
    }
    taken.removeAll(keepingCapacity: true)
  }

  private func activate(_ member: CompletionQueueMember) {
    guard !member.isActive else { return }
    member.isActive = true
    active.append(member)
  }

  // MARK: Waiting

  func arm() {
    // Pairs with the load in `raise`: the flag, then another look at the work.
    isArmed.store(true, ordering: .sequentiallyConsistent)
    refresh()
    harvest()
  }

  func disarm() {
    guard isArmed.load(ordering: .relaxed) else { return }
    isArmed.store(false, ordering: .relaxed)
    harvest()
  }

  /// There is something for the poller; from any thread.
  func raise(_ member: CompletionQueueMember) {
    raised.withLock { $0.append(member) }
    hasRaised.store(true, ordering: .sequentiallyConsistent)
    if isArmed.load(ordering: .sequentiallyConsistent) { wakeUp.signal() }
  }

  // MARK: Members

  func attach(_ member: CompletionQueueMember, possible: Int) {
    roster.withLock { roster in
      let number = member.number
      roster.members[number] = member
      unsafe roster.queuePairs[number] = member.queuePair
      roster.possible += possible
      if roster.possible > capacity && !isCounting.load(ordering: .relaxed) {
        let outstanding = roster.members.values.reduce(0) {
          unsafe $0 + $1.queuePair.outstandingCount(for: $1)
        }
        admitted.store(outstanding, ordering: .relaxed)
        isCounting.store(true, ordering: .releasing)
      }
      rosterVersion.add(1, ordering: .releasing)
    }
  }

  func detach(_ member: CompletionQueueMember, possible: Int) {
    let queuePair = roster.withLock { roster -> TCPQueuePair? in
      let number = member.number
      guard roster.members.removeValue(forKey: number) != nil else { return nil }
      roster.possible -= possible
      if isCounting.load(ordering: .relaxed) {
        admitted.subtract(
          unsafe member.queuePair.outstandingCount(for: member), ordering: .relaxed)
      }
      rosterVersion.add(1, ordering: .releasing)
      return roster.queuePairs.removeValue(forKey: number)
    }
    _ = consume queuePair
  }

  func watch(_ socket: CInt, number: UInt32) throws(Errno) {
    try poller.addEdges(socket, tag: UInt64(number))
  }

  func unwatch(_ socket: CInt) { poller.remove(socket) }

  func wantOutput(_ wants: Bool, _ socket: CInt, number: UInt32) {
    poller.wantOutputEdges(wants, socket, tag: UInt64(number))
  }

  // MARK: Admission

  /// How many of `count` more requests could have their completions held.
  func admit(_ count: Int) -> Int {
    guard isCounting.load(ordering: .relaxed) else { return count }
    let before = admitted.add(count, ordering: .relaxed).oldValue
    let granted = max(0, min(count, capacity &- before))
    if granted < count { admitted.subtract(count &- granted, ordering: .relaxed) }
    return granted
  }

  func withdrawAdmission(_ count: Int) {
    if isCounting.load(ordering: .relaxed) { admitted.subtract(count, ordering: .relaxed) }
  }
}
