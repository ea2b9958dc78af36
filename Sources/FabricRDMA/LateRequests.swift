import Synchronization

/// Where in a ring the requests begin that the device never got, because the queue pair had failed.
///
/// Threads: one posts, one polls.
final class LateRequests: Sendable {
  private let first = Atomic<UInt64>(.max)

  /// They begin with request `number`, unless some came before.
  func begin(at number: UInt64) {
    if first.load(ordering: .relaxed) == .max { first.store(number, ordering: .releasing) }
  }

  /// Whether request `number` is one of them.
  func contains(_ number: UInt64) -> Bool { number >= first.load(ordering: .acquiring) }
}
