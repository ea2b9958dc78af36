/// A set of blocks as sorted ranges that neither touch nor overlap.
struct BlockRanges: Equatable, Sendable {
  /// The most ranges that are kept, so that a map is bounded and quick to write.
  static let maximumCount = 4096

  private(set) var ranges: [Range<UInt64>] = []

  /// The first block of `blocks` that is in the set.
  func firstBlock(in blocks: Range<UInt64>) -> UInt64? {
    let index = firstIndex(endingAfter: blocks.lowerBound)
    guard index < ranges.count, ranges[index].lowerBound < blocks.upperBound else { return nil }
    return max(ranges[index].lowerBound, blocks.lowerBound)
  }

  /// Adds blocks. False when the set would have more than `maximumCount` ranges; nothing changes.
  mutating func insert(_ blocks: Range<UInt64>) -> Bool {
    guard !blocks.isEmpty else { return true }
    let first = firstIndex(endingAtOrAfter: blocks.lowerBound)
    var last = first
    var merged = blocks
    while last < ranges.count, ranges[last].lowerBound <= blocks.upperBound {
      let lower = min(merged.lowerBound, ranges[last].lowerBound)
      merged = lower..<max(merged.upperBound, ranges[last].upperBound)
      last += 1
    }
    guard last > first || ranges.count < Self.maximumCount else { return false }
    ranges.replaceSubrange(first..<last, with: CollectionOfOne(merged))
    return true
  }

  /// Removes blocks.
  mutating func remove(_ blocks: Range<UInt64>) {
    let first = firstIndex(endingAfter: blocks.lowerBound)
    var last = first
    var rest: [Range<UInt64>] = []
    while last < ranges.count, ranges[last].lowerBound < blocks.upperBound {
      let range = ranges[last]
      if range.lowerBound < blocks.lowerBound {
        rest.append(range.lowerBound..<blocks.lowerBound)
      }
      if range.upperBound > blocks.upperBound {
        rest.append(blocks.upperBound..<range.upperBound)
      }
      last += 1
    }
    ranges.replaceSubrange(first..<last, with: rest)
  }

  private func firstIndex(endingAfter block: UInt64) -> Int {
    firstIndex { $0.upperBound > block }
  }

  private func firstIndex(endingAtOrAfter block: UInt64) -> Int {
    firstIndex { $0.upperBound >= block }
  }

  /// Binary search: `holds` is false for a head of the ranges and true for the rest.
  private func firstIndex(where holds: (Range<UInt64>) -> Bool) -> Int {
    var low = 0
    var high = ranges.count
    while low < high {
      let middle = (low + high) / 2
      if holds(ranges[middle]) { high = middle } else { low = middle + 1 }
    }
    return low
  }
}
