import FabricVerbs

/// Ended requests, and places kept for those that have not ended.
final class SimulatedCompletionQueue: CompletionQueue, @unchecked Sendable {
  let adapter: SimulatedAdapter
  let capacity: Int
  /// Requests posted whose completions have not been polled, or that ended without one.
  private var outstandingCount = 0
  private var completions: [WorkCompletion] = []
  private var head = 0

  init(adapter: SimulatedAdapter, capacity: Int) {
    self.adapter = adapter
    self.capacity = capacity
  }

  var descriptor: CInt? { nil }
  func arm() {}
  func disarm() {}

  func poll(into target: inout MutableSpan<WorkCompletion>) -> Int {
    adapter.beforePoll?()
    let count = min(target.count, completions.count - head)
    for index in 0..<count { target[index] = completions[head + index] }
    head += count
    if head == completions.count {
      completions.removeAll(keepingCapacity: true)
      head = 0
    }
    outstandingCount -= count
    if count > 0 { adapter.network.resumeStalled() }
    return count
  }

  var isFull: Bool { outstandingCount >= capacity }
  func reserve() { outstandingCount += 1 }
  /// A request ended without a completion.
  func release(_ count: Int = 1) { outstandingCount -= count }
  func push(_ completion: WorkCompletion) { completions.append(completion) }

  /// Forgets what a queue pair left behind.
  func drop(_ number: UInt32) {
    let kept = completions[head...].filter { $0.queuePairNumber != number }
    outstandingCount -= completions.count - head - kept.count
    completions = Array(kept)
    head = 0
  }
}

final class SimulatedSharedReceiveQueue: SharedReceiveQueue, @unchecked Sendable {
  let domain: SimulatedProtectionDomain
  let capacity: Int
  var receives: [ReceiveRequest] = []

  init(domain: SimulatedProtectionDomain, capacity: Int) {
    self.domain = domain
    self.capacity = capacity
  }

  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError) {
    defer { domain.adapter.network.resumeStalled() }
    for index in requests.indices {
      guard domain.covers(requests[index].elements, isWritten: true) else {
        throw PostError(acceptedCount: index, reason: .invalidElement)
      }
      guard receives.count < capacity else {
        throw PostError(acceptedCount: index, reason: .queueFull)
      }
      receives.append(requests[index])
    }
  }
}
