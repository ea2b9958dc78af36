import FabricPlatform
import FabricVerbs
import Synchronization

extension CompletionService {
  /// Starts the `index`-th thread. It does not keep the service alive: `stop` joins it first.
  func startThread(_ index: Int) throws(Errno) -> SystemThread {
    let service = UnownedService(self)
    return try SystemThread.start(name: "completion \(index)") {
      unsafe service.reference._withUnsafeGuaranteedRef { $0.runThread(index) }
    }
  }

  private func runThread(_ index: Int) {
    if let processor = options.processor {
      try? Processor.bindCallingThread(toAvailable: processor + index)
    } else if let node = options.numaNode {
      MemoryNode.runCallingThread(near: node)
    }
    let isStopped = { [isStopping = UnownedService(self)] in
      unsafe isStopping.reference._withUnsafeGuaranteedRef {
        $0.isStopping.load(ordering: .relaxed)
      }
    }
    if index == 0 {
      begin { context in
        run(context, until: isStopped, deadline: nil)
        // Jobs given before the stop, and those that they give, are run.
        while jobsAreWaiting { _ = round(context) }
      }
    } else {
      follow(contexts[index])
    }
  }

  /// Helps the first thread with the completion queues. Sleeps when there is nothing, and is woken
  /// by the first thread, the only one that waits for descriptors.
  private func follow(_ context: RoundContext) {
    context.thread.store(SystemThread.currentIdentity, ordering: .relaxed)
    context.worker.moveToCallingThread()
    var idleSince: MonotonicTime?
    while !isStopping.load(ordering: .relaxed) {
      let seen = followerWord.load(ordering: .acquiring)
      context.enter()
      let count = serveQueues(context)
      context.leave()
      if context.keepsAlive { context.letGo() }
      if count > 0 {
        idleSince = nil
        continue
      }
      spinHint()
      let now = MonotonicTime.now
      let since = idleSince ?? now
      idleSince = since
      if now.nanoseconds(since: since) < spinBound { continue }
      sleepingFollowerCount.add(1, ordering: .sequentiallyConsistent)
      if !isStopping.load(ordering: .sequentiallyConsistent) {
        Futex.wait(followerWord, while: seen)
      }
      sleepingFollowerCount.subtract(1, ordering: .relaxed)
      idleSince = nil
    }
  }

  func wakeFollowers(count: Int) {
    followerWord.add(1, ordering: .sequentiallyConsistent)
    Futex.wake(followerWord, count: count)
  }
}

/// The service for its own threads, which it outlives.
@safe
private struct UnownedService: @unchecked Sendable {
  let reference: Unmanaged<CompletionService>
  init(_ service: CompletionService) { unsafe reference = .passUnretained(service) }
}
