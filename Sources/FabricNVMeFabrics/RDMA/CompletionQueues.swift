import FabricCompletion
import FabricVerbs

/// As few completion queues as hold what all queue pairs of an adapter may have under way.
final class CompletionQueues {
  private static let capacity = 1 << 16

  private let adapter: any Adapter
  private let service: CompletionService
  private var all: [(queue: any CompletionQueue, taken: Int)] = []

  init(_ adapter: any Adapter, _ service: CompletionService) {
    self.adapter = adapter
    self.service = service
  }

  /// One with room for `count` more requests.
  func take(_ count: Int) throws(ResourceError) -> any CompletionQueue {
    if let index = all.firstIndex(where: { $0.taken + count <= $0.queue.capacity }) {
      all[index].taken += count
      return all[index].queue
    }
    let most = adapter.capabilities.maximumCompletionCount
    guard count <= most else {
      throw .invalidCapacity("expected at most \(most) requests of a queue, got \(count)")
    }
    let queue = try adapter.makeCompletionQueue(capacity: max(count, min(Self.capacity, most)))
    service.add(queue)
    all.append((queue, count))
    return queue
  }

  /// The requests of a queue pair that is gone take no room any more.
  func give(_ queue: any CompletionQueue, _ count: Int) {
    guard let index = all.firstIndex(where: { $0.queue === queue }) else { return }
    all[index].taken -= count
    // One stays, for those who come next.
    if all[index].taken == 0, all.count > 1 { leave(all.remove(at: index).queue) }
  }

  func leaveService() {
    for (queue, _) in all { leave(queue) }
    all = []
  }

  private func leave(_ queue: any CompletionQueue) {
    service.remove(queue)
    // Nobody polls it after this: what it holds of queue pairs that are destroyed goes now.
    var last = [WorkCompletion](repeating: WorkCompletion(), count: 1)
    var space = last.mutableSpan
    _ = queue.poll(into: &space)
  }
}
