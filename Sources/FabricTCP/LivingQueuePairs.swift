import FabricPlatform
import Synchronization

/// Queue pairs by number, until they are destroyed.
final class LivingQueuePairs: Sendable {
  private struct Table {
    var queuePairs: [UInt32: TCPQueuePair] = [:]
    /// The one asked for last, which `queuePairs` keeps: with one connection, always.
    var last: UncountedReference<TCPQueuePair>?
    var lastNumber: UInt32 = 0

    mutating func find(_ number: UInt32) -> UncountedReference<TCPQueuePair>? {
      if lastNumber != number {
        lastNumber = number
        last = queuePairs[number].map { UncountedReference($0) }
      }
      return last
    }
  }

  private let table = Mutex(Table())

  var all: [TCPQueuePair] { table.withLock { Array($0.queuePairs.values) } }

  /// As the queue pair's own, if it lives. Locks: this table's before `receiving`.
  func waitForPlacement(of number: UInt32) {
    table.withLock { table in table.find(number)?.with { $0.waitForPlacement() } }
  }

  func add(_ queuePair: TCPQueuePair) {
    table.withLock { table in
      table.queuePairs[queuePair.number] = queuePair
      table.lastNumber = 0
    }
  }

  func remove(_ queuePair: TCPQueuePair) {
    table.withLock { table in
      table.queuePairs[queuePair.number] = nil
      table.last = nil
      table.lastNumber = 0
    }
  }
}
