import FabricPlatform
import FabricVerbs
import Synchronization

/// A handler with the queue pair whose completions it gets.
final class Monitor {
  let handler: any CompletionHandler
  /// The handler's place, so that it can be brought near without a look at it.
  let reference: UncountedReference<AnyObject>

  init(_ handler: any CompletionHandler) {
    self.handler = handler
    reference = UncountedReference(handler)
  }
}

/// A completion queue that the service watches, and who gets what comes out of it.
///
/// The handlers change under the service's gate; who dispatches is inside it and holds the claim.
@safe
final class ServedQueue {
  let queue: any CompletionQueue
  /// Odd while a thread polls it or dispatches from it.
  private let claim = Atomic<UInt32>(0)
  // Nothing is called while it is looked at or changed, and the check costs as much as the look.
  @exclusivity(unchecked) private var monitors = NumberedObjects<Monitor>()

  init(_ queue: any CompletionQueue) { self.queue = queue }

  // MARK: Claims

  /// Takes the queue for the calling thread.
  ///
  /// - Parameter isShared: whether other threads may want it, too.
  @inline(__always)
  func tryClaim(isShared: Bool) -> Bool {
    let seen = claim.load(ordering: .relaxed)
    if seen & 1 != 0 { return false }
    guard isShared else {
      claim.store(seen &+ 1, ordering: .relaxed)
      return true
    }
    // Acquires what the last holder did; pairs with `giveBack`.
    return claim.compareExchange(expected: seen, desired: seen &+ 1, ordering: .acquiring).exchanged
  }

  @inline(__always)
  func giveBack() {
    claim.store(claim.load(ordering: .relaxed) &+ 1, ordering: .releasing)
  }

  /// Waits until whoever holds the claim now has given it back.
  func waitForHolder() {
    let seen = claim.load(ordering: .acquiring)
    if seen & 1 == 0 { return }
    while claim.load(ordering: .acquiring) == seen { SystemThread.yield() }
  }

  // MARK: Handlers

  /// Whose completions `number` stands for; nil when nobody's.
  @inline(__always)
  func monitor(of number: UInt32) -> UncountedReference<Monitor>? { unsafe monitors.find(number) }

  func setMonitor(_ monitor: Monitor, of number: UInt32) {
    unsafe monitors.set(monitor, of: number)
  }

  func removeMonitor(of number: UInt32) { unsafe monitors.remove(number) }
}

/// A source as the rounds see it: a class, so that a round can refer to it without counting.
final class ServedSource {
  let source: any ProgressSource

  init(_ source: any ProgressSource) { self.source = source }
}
