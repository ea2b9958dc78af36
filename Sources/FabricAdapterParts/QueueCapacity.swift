public import FabricVerbs

/// The capacities that adapters without a card take.
public enum QueueCapacity {
  /// Of a send queue, a receive queue, or a shared one.
  public static let requests = 1...65536
  /// Of a completion queue.
  public static let completions = 1...(1 << 24)

  /// Throws `ResourceError.invalidCapacity` unless a queue of requests may have this capacity.
  ///
  /// - Parameter what: the queue's name, for the message: "send queue".
  public static func check(requests capacity: Int, _ what: String) throws(ResourceError) {
    try check(capacity, requests, what)
  }

  /// Throws `ResourceError.invalidCapacity` unless a completion queue may have this capacity.
  public static func check(completions capacity: Int) throws(ResourceError) {
    try check(capacity, completions, "completion queue")
  }

  private static func check(
    _ capacity: Int, _ allowed: ClosedRange<Int>, _ what: String
  ) throws(ResourceError) {
    guard allowed ~= capacity else {
      throw .invalidCapacity(
        "expected a \(what) for \(allowed.lowerBound) to \(allowed.upperBound) requests, "
          + "got \(capacity)")
    }
  }
}

extension QueuePairAttributes {
  /// Throws `ResourceError.invalidCapacity` unless the queue pair's queues may have their
  /// capacities; that of the receive queue matters only without a shared one.
  public func checkCapacities() throws(ResourceError) {
    try QueueCapacity.check(requests: sendCapacity, "send queue")
    if sharedReceiveQueue == nil {
      try QueueCapacity.check(requests: receiveCapacity, "receive queue")
    }
  }

  /// The shared receive queue, or a new one for this queue pair alone. Throws
  /// `ResourceError.foreignParts` when the shared one is another adapter's.
  ///
  /// - Parameter localKeys: what the elements of a new queue's receives are checked against.
  public func receiveQueue(localKeys: RemoteKeyTable) throws(ResourceError) -> ReceiveQueue {
    guard let sharedReceiveQueue else {
      return ReceiveQueue(localKeys: localKeys, capacity: receiveCapacity)
    }
    guard let queue = sharedReceiveQueue as? ReceiveQueue else { throw .foreignParts }
    return queue
  }
}
