import CFabricVerbs
import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// A completion queue of the device. Polling makes no system call.
@safe
final class RDMACompletionQueue: CompletionQueue, @unchecked Sendable {
  /// Completions that one call of the library brings.
  private static let batchCount = 64

  /// A queue pair that comes or goes, on its way to the polling thread.
  private struct Change {
    let queuePair: RDMAQueuePair
    let isThere: Bool
  }

  private struct Roster {
    var members: [UInt32: RDMAQueuePair] = [:]
    var changes: [Change] = []
  }

  let device: OpenDevice
  let handle: UnsafeMutablePointer<ibv_cq>
  let admission: CompletionAdmission
  private let channel: UnsafeMutablePointer<ibv_comp_channel>
  private let roster = Mutex(Roster())
  private let hasChanges = Atomic<Bool>(false)
  /// Queue pairs with requests that came when all was over.
  private let late = Mutex<[UInt32]>([])
  private let hasLate = Atomic<Bool>(false)
  private let poller: Poller
  private let wakeUp: EventDescriptor

  // The polling thread's own.
  @exclusivity(unchecked) private var members = NumberedObjects<RDMAQueuePair>()
  private let batch: UnsafeMutablePointer<ibv_wc>

  init(_ device: OpenDevice, capacity: Int) throws(ResourceError) {
    guard capacity <= device.maximumCompletionCount else {
      throw .invalidCapacity(
        "expected a completion queue for at most \(device.maximumCompletionCount) requests, which "
          + "is what \(device.name) has, got \(capacity)")
    }
    guard let channel = unsafe ibv_create_comp_channel(device.context) else {
      throw .system(Errno.current, doing: "making a completion channel")
    }
    guard
      unsafe fabric_verbs_unblock(channel.pointee.fd) == 0,
      let handle = unsafe ibv_create_cq(device.context, CInt(capacity), nil, channel, 0)
    else {
      let error = Errno.current
      unsafe ibv_destroy_comp_channel(channel)
      throw .refusal(error, doing: "making a completion queue for \(capacity) requests")
    }
    self.device = device
    do throws(Errno) {
      poller = try Poller()
      wakeUp = try EventDescriptor()
      try poller.add(unsafe channel.pointee.fd, tag: 1)
      try poller.add(wakeUp.descriptor.rawValue, tag: 0)
    } catch {
      unsafe ibv_destroy_cq(handle)
      unsafe ibv_destroy_comp_channel(channel)
      throw .system(error, doing: "making a completion queue")
    }
    unsafe self.handle = handle
    unsafe self.channel = channel
    admission = CompletionAdmission(capacity: capacity)
    unsafe batch = .allocate(capacity: Self.batchCount)
  }

  deinit {
    unsafe ibv_destroy_cq(handle)
    unsafe ibv_destroy_comp_channel(channel)
    unsafe batch.deallocate()
  }

  var capacity: Int { admission.capacity }
  var descriptor: CInt? { poller.descriptor.rawValue }

  // MARK: Polling

  func poll(into completions: inout MutableSpan<WorkCompletion>) -> Int {
    if hasChanges.load(ordering: .acquiring) { refresh() }
    // What the device has told until then lies in its queue and comes first.
    let isLate = hasLate.load(ordering: .acquiring)
    var count = 0
    while count < completions.count {
      let room = min(completions.count &- count, Self.batchCount)
      let taken = unsafe Int(ibv_poll_cq(handle, CInt(truncatingIfNeeded: room), batch))
      if taken > 0 {
        unsafe completions.withUnsafeMutableBufferPointer { results in
          unsafe take(taken, into: results.baseAddress!, &count)
        }
      }
      if taken < room {
        if isLate { takeLate(into: &completions, &count) }
        break
      }
    }
    return count
  }

  /// Writes the first of the batch, `taken` of them, as results from number `count` on.
  @inline(__always)
  private func take(
    _ taken: Int, into results: UnsafeMutablePointer<WorkCompletion>, _ count: inout Int
  ) {
    var place = unsafe UnsafePointer(batch)
    let end = unsafe place + taken
    repeat {
      if let member = unsafe members.find(place.pointee.qp_num) {
        unsafe place = member.with {
          unsafe $0.takeEnds(place, end: end, into: results, &count)
        }
      } else {
        // Those of a destroyed queue pair are nobody's.
        unsafe place += 1
      }
    } while unsafe place != end
  }

  /// There is something to flush that the device does not know; from any thread.
  func flushLate(_ queuePair: RDMAQueuePair) {
    late.withLock { if !$0.contains(queuePair.number) { $0.append(queuePair.number) } }
    hasLate.store(true, ordering: .releasing)
    wakeUp.signal()
  }

  @inline(never)
  private func takeLate(into completions: inout MutableSpan<WorkCompletion>, _ count: inout Int) {
    let numbers = late.withLock { late in
      hasLate.store(false, ordering: .relaxed)
      defer { late.removeAll() }
      return late
    }
    for number in numbers {
      guard let member = unsafe members.find(number) else { continue }
      while count < completions.count, let next = member.with({ $0.nextLate(on: self) }) {
        completions[count] = next
        count += 1
      }
      member.with { if $0.hasLate(on: self) { flushLate($0) } }
    }
  }

  @inline(never)
  private func refresh() {
    let changes = roster.withLock { roster in
      hasChanges.store(false, ordering: .relaxed)
      defer { roster.changes.removeAll() }
      return roster.changes
    }
    for change in changes {
      if change.isThere {
        unsafe members.set(change.queuePair, of: change.queuePair.number)
      } else {
        unsafe members.remove(change.queuePair.number)
      }
    }
  }

  // MARK: Waiting

  func arm() { unsafe ibv_req_notify_cq(handle, 0) }

  func disarm() {
    wakeUp.clear()
    var queue: UnsafeMutablePointer<ibv_cq>?
    var context: UnsafeMutableRawPointer?
    while unsafe ibv_get_cq_event(channel, &queue, &context) == 0 {
      unsafe ibv_ack_cq_events(handle, 1)
    }
  }

  // MARK: Members

  /// - Parameter possible: requests of the queue pair whose completions may come here.
  func attach(_ queuePair: RDMAQueuePair, possible: Int) {
    roster.withLock { roster in
      roster.members[queuePair.number] = queuePair
      roster.changes.append(Change(queuePair: queuePair, isThere: true))
      admission.join(possible: possible) {
        roster.members.values.reduce(0) { $0 + $1.outstandingCount(on: self) }
      }
      hasChanges.store(true, ordering: .releasing)
    }
  }

  func detach(_ queuePair: RDMAQueuePair, possible: Int) {
    roster.withLock { roster in
      guard roster.members.removeValue(forKey: queuePair.number) != nil else { return }
      roster.changes.append(Change(queuePair: queuePair, isThere: false))
      admission.leave(possible: possible) { queuePair.outstandingCount(on: self) }
      hasChanges.store(true, ordering: .releasing)
    }
  }
}
