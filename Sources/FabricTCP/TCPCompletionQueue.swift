import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Reads and writes its queue pairs' sockets when it is polled, and only those that have something.
@safe
final class TCPCompletionQueue: CompletionQueue, @unchecked Sendable {
  /// Up to so many queue pairs are asked each time; of more, the kernel says which have something.
  private static let directLimit = 2
  /// After so many polls without sleep, of queue pairs that each poll asks, the kernel need not watch.
  private static let restlessPollCount = 1000

  /// A queue pair that comes or goes, on its way to the polling thread.
  private struct Change {
    let member: CompletionQueueMember
    /// Kept alive until the polling thread has let go of it.
    let queuePair: TCPQueuePair
    let isThere: Bool
  }

  private struct Roster {
    var members: [UInt32: CompletionQueueMember] = [:]
    var changes: [Change] = []
  }

  let admission: CompletionAdmission
  let input = InputBuffer()
  let trainMemory = TrainMemory()
  private let watch: SocketWatch
  private let wakeUp: EventDescriptor
  private let roster = Mutex(Roster())
  private let hasChanges = Atomic<Bool>(false)
  /// By number: one that has gone meanwhile is not looked at.
  private let raised = Mutex<[UInt32]>([])
  private let hasRaised = Atomic<Bool>(false)
  private let isArmed = Atomic<Bool>(false)

  // The polling thread's own.
  // Nothing is called while a member is looked for, and the check costs as much as the look.
  @exclusivity(unchecked) private var members = NumberedObjects<CompletionQueueMember>()
  private var queuePairs: [UInt32: TCPQueuePair] = [:]
  /// While each is asked at every poll, all members.
  private let active = ActiveMembers()
  /// Of `active`, those whose turn is still to come in this round.
  private var turnsLeft = 0
  private var taken: [UInt32] = []
  /// Whether each queue pair is asked at every poll.
  private(set) var isDirect = true
  private var isWatching = true
  /// Polls since this was last armed, up to `restlessPollCount`.
  private var pollCount = 0

  init(capacity: Int) throws(Errno) {
    admission = CompletionAdmission(capacity: capacity)
    watch = try SocketWatch()
    wakeUp = try EventDescriptor()
    // Queue pairs' numbers begin at 1.
    try watch.poller.add(wakeUp.descriptor.rawValue, tag: 0)
  }

  var capacity: Int { admission.capacity }
  var descriptor: CInt? { watch.poller.descriptor.rawValue }

  // MARK: Polling

  /// A look at each queue pair that has something, in turn, until `completions` is full. Those whose
  /// turn does not come cost nothing.
  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    refresh()
    if isDirect { return pollAll(into: &completions) }
    if turnsLeft == 0 {
      // The kernel is asked once for a round, however many polls that takes.
      harvest()
      takeRaised()
      turnsLeft = active.count
    }
    var count = 0
    while turnsLeft > 0 && count < completions.count {
      let member = active.first
      prefetchNext()
      count = member.with { $0.poll(into: &completions, from: count, expectsInput: false) }
      // Nobody else can read meanwhile: whose input is in the buffer goes on next time.
      if count == completions.count && member.with({ input.owner == $0.number }) { break }
      active.removeFirst()
      turnsLeft &-= 1
      if member.with({ $0.staysActive() }) { active.append(member) }
    }
    return count
  }

  /// A look at every queue pair, of which there are few.
  private func pollAll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    if isWatching { watchLess() }
    takeRaised()
    var count = 0
    var index = 0
    while index < active.count && count < completions.count {
      let member = active.member(behind: index)
      count = member.with { $0.poll(into: &completions, from: count, expectsInput: true) }
      index &+= 1
    }
    // Another one comes first where there was no room for all.
    if count == completions.count && index > 0 && input.owner == 0 {
      let first = active.first
      active.removeFirst()
      active.append(first)
    }
    return count
  }

  /// What the next ones' polls will touch is on its way while this one is polled.
  private func prefetchNext() {
    if turnsLeft > 5 { active.member(behind: 5).with { $0.prefetchQueuePair() } }
    if turnsLeft > 3 { active.member(behind: 3).with { $0.prefetchParts() } }
    if turnsLeft > 1 { active.member(behind: 1).with { $0.prefetchContents() } }
  }

  /// Takes over who has come and who has gone.
  private func refresh() {
    guard hasChanges.load(ordering: .acquiring) else { return }
    let changes = roster.withLock { roster in
      hasChanges.store(false, ordering: .relaxed)
      defer { roster.changes.removeAll() }
      return roster.changes
    }
    turnsLeft = 0
    for change in changes { change.isThere ? enter(change) : leave(change.member) }
    isDirect = unsafe members.count <= Self.directLimit
    if isDirect { unsafe members.forEach { activate($0) } } else { turnWatchOn() }
  }

  private func watchLess() {
    pollCount &+= 1
    guard pollCount == Self.restlessPollCount else { return }
    isWatching = false
    watch.turnOff()
  }

  private func turnWatchOn() {
    pollCount = 0
    guard !isWatching else { return }
    isWatching = true
    for (number, error) in watch.turnOn() {
      unsafe members.find(number)?.with {
        $0.queuePair.with { $0.fail(.failure("watching a socket failed: \(error)")) }
      }
    }
  }

  private func enter(_ change: Change) {
    let member = change.member
    unsafe members.set(member, of: member.number)
    queuePairs[member.number] = change.queuePair
    change.queuePair.expectInput()
    member.raiseQuietly()
    activate(member)
  }

  private func leave(_ member: CompletionQueueMember) {
    input.forget(owner: member.number)
    if member.isActive { active.remove(member) }
    // It may have been watched after it had failed.
    watch.remove(number: member.number)
    unsafe members.remove(member.number)
    queuePairs[member.number] = nil
  }

  /// Asks the kernel which sockets have something.
  private func harvest() {
    watch.poller.takeEdges(
      prepare: { unsafe members.find(UInt32(truncatingIfNeeded: $0))?.prefetch(byteCount: 64) }
    ) { tag, hasEnded in
      if tag == 0 {
        wakeUp.clear()
      } else if let member = unsafe members.find(UInt32(truncatingIfNeeded: tag)) {
        member.with { member in
          member.expectInput(withEnd: hasEnded)
          member.raiseQuietly()
          activate(member)
        }
      }
    }
  }

  private func takeRaised() {
    guard hasRaised.load(ordering: .acquiring) else { return }
    raised.withLock { raised in
      hasRaised.store(false, ordering: .relaxed)
      swap(&raised, &taken)
    }
    for number in taken { unsafe members.find(number)?.with { activate($0) } }
    taken.removeAll(keepingCapacity: true)
  }

  private func activate(_ member: CompletionQueueMember) {
    guard !member.isActive else { return }
    member.isActive = true
    active.append(UncountedReference(member))
  }

  // MARK: Waiting

  func arm() {
    // Pairs with the load in `raise`: the flag, then another look at the work.
    isArmed.store(true, ordering: .sequentiallyConsistent)
    refresh()
    turnWatchOn()
    harvest()
  }

  func disarm() {
    guard isArmed.load(ordering: .relaxed) else { return }
    isArmed.store(false, ordering: .relaxed)
    harvest()
  }

  /// There is something for the poller; from any thread.
  func raise(_ member: CompletionQueueMember) {
    raised.withLock { $0.append(member.number) }
    hasRaised.store(true, ordering: .sequentiallyConsistent)
    if isArmed.load(ordering: .sequentiallyConsistent) { wakeUp.signal() }
  }

  // MARK: Members

  func attach(_ member: CompletionQueueMember, of queuePair: TCPQueuePair, possible: Int) {
    member.belongs(to: queuePair)
    roster.withLock { roster in
      roster.members[member.number] = member
      roster.changes.append(Change(member: member, queuePair: queuePair, isThere: true))
      admission.join(possible: possible) {
        roster.members.values.reduce(0) { $0 + $1.outstandingCount }
      }
      hasChanges.store(true, ordering: .releasing)
    }
  }

  func detach(_ member: CompletionQueueMember, of queuePair: TCPQueuePair, possible: Int) {
    roster.withLock { roster in
      guard roster.members.removeValue(forKey: member.number) != nil else { return }
      roster.changes.append(Change(member: member, queuePair: queuePair, isThere: false))
      admission.leave(possible: possible) {
        member.outstandingCount
      }
      hasChanges.store(true, ordering: .releasing)
    }
  }

  func watch(_ socket: CInt, number: UInt32) throws(Errno) {
    try watch.add(socket, number: number)
  }

  func unwatch(number: UInt32) { watch.remove(number: number) }
}
