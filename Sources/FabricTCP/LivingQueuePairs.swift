import Synchronization

/// Queue pairs by number, until they are destroyed.
final class LivingQueuePairs: Sendable {
  private let queuePairs = Mutex<[UInt32: TCPQueuePair]>([:])

  var all: [TCPQueuePair] { queuePairs.withLock { Array($0.values) } }
  subscript(number: UInt32) -> TCPQueuePair? { queuePairs.withLock { $0[number] } }

  func add(_ queuePair: TCPQueuePair) {
    queuePairs.withLock { $0[queuePair.number] = queuePair }
  }

  func remove(_ queuePair: TCPQueuePair) {
    queuePairs.withLock { _ = $0.removeValue(forKey: queuePair.number) }
  }
}
