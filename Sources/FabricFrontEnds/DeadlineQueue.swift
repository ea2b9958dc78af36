public import FabricPlatform

/// Numbers with deadlines that were added in the deadlines' order.
public struct DeadlineQueue {
  private var entries: [(number: UInt32, deadline: MonotonicTime)] = []
  private var start = 0

  public init() {}

  public var first: MonotonicTime? { start < entries.count ? entries[start].deadline : nil }
  public var numbers: some Sequence<UInt32> { entries[start...].lazy.map(\.number) }

  public mutating func add(_ number: UInt32, at deadline: MonotonicTime) {
    entries.append((number, deadline))
  }

  /// Takes the next whose time has come.
  public mutating func next(at now: MonotonicTime) -> UInt32? {
    guard let first, first <= now else { return nil }
    return takeFirst()
  }

  /// Forgets those at the front that `isSettled`.
  public mutating func prune(_ isSettled: (UInt32) -> Bool) {
    while start < entries.count, isSettled(entries[start].number) { _ = takeFirst() }
  }

  private mutating func takeFirst() -> UInt32 {
    let number = entries[start].number
    start += 1
    if start * 2 > entries.count {
      entries.removeFirst(start)
      start = 0
    }
    return number
  }
}
