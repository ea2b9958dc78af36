import Synchronization

/// Which blocks of a store are unreadable. Any thread.
///
/// The usual case, that there are none, costs one relaxed load and no lock.
final class UncorrectableMap: Sendable {
  private let hasMarks: Atomic<Bool>
  private let marks: Mutex<BlockRanges>

  init(_ ranges: BlockRanges = BlockRanges()) {
    hasMarks = Atomic(!ranges.ranges.isEmpty)
    marks = Mutex(ranges)
  }

  /// Relaxed: who marked a block and told another of it has synchronised with that other by
  /// telling; nothing is promised to requests that run at the same time.
  var isEmpty: Bool { !hasMarks.load(ordering: .relaxed) }

  /// The first unreadable block of `blocks`.
  func firstBlock(in blocks: Range<UInt64>) -> UInt64? {
    isEmpty ? nil : marks.withLock { $0.firstBlock(in: blocks) }
  }

  /// Makes blocks unreadable once `save` has kept the new set; nothing changes when it throws.
  func mark(
    _ blocks: Range<UInt64>, save: (BlockRanges) throws(StoreError) -> Void = { _ in }
  ) throws(BlockStatus) {
    try update(save: save) { $0.insert(blocks) }
  }

  /// Makes blocks readable again, as a write to them does.
  func clear(
    _ blocks: Range<UInt64>, save: (BlockRanges) throws(StoreError) -> Void = { _ in }
  ) throws(BlockStatus) {
    guard firstBlock(in: blocks) != nil else { return }
    try update(save: save) { ranges in
      ranges.remove(blocks)
      return true
    }
  }

  private func update(
    save: (BlockRanges) throws(StoreError) -> Void, _ change: (inout BlockRanges) -> Bool
  ) throws(BlockStatus) {
    let status = marks.withLock { ranges -> BlockStatus in
      var changed = ranges
      guard change(&changed) else { return .capacityExceeded }
      do throws(StoreError) {
        try save(changed)
      } catch {
        return error.isOutOfSpace ? .capacityExceeded : .mediaWriteError
      }
      ranges = changed
      hasMarks.store(!changed.ranges.isEmpty, ordering: .relaxed)
      return .success
    }
    if status != .success { throw status }
  }
}
