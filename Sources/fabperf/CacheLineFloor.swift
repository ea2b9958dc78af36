import FabricPlatform
import Synchronization

/// The machine's own floor of latency: a word bounced between two processes, nothing else.
final class CacheLineFloor {
  private static let roundCount: UInt32 = chunkCount * chunkRoundCount
  private static let chunkCount: UInt32 = 101
  private static let chunkRoundCount: UInt32 = 10_000
  private let mapping: Mapping
  private let there: SharedWord32
  private let back: SharedWord32

  /// Where the peer finds the words: through this process's descriptor.
  let descriptor: Int32

  /// Makes the words.
  init() throws {
    let file = try MemoryFile(name: "fabperf-floor", byteCount: 4096)
    mapping = try file.map(.readWrite)
    // Stays open until the process ends.
    descriptor = try file.descriptor.duplicate().release()
    (there, back) = Self.words(mapping)
  }

  /// Opens the words that process made.
  init(process: Int32, descriptor: Int32) throws {
    let file = try Descriptor.opening("/proc/\(process)/fd/\(descriptor)")
    mapping = try Mapping.shared(file, byteCount: 4096, access: .readWrite)
    self.descriptor = descriptor
    (there, back) = Self.words(mapping)
  }

  private static func words(_ mapping: Mapping) -> (SharedWord32, SharedWord32) {
    let base = unsafe mapping.bytes.baseAddress!
    return unsafe (SharedWord32(at: base), SharedWord32(at: base + 1024))
  }

  /// Nanoseconds of half a round trip: the median of many short runs, so that a moment's
  /// preemption does not make the floor look higher than it is.
  func measure() -> Double {
    var round: UInt32 = 1
    there.storeReleasing(round)
    while back.loadAcquiring() != round { spinHint() }
    var chunks: [Double] = []
    for _ in 0..<Self.chunkCount {
      let first = round
      let start = MonotonicTime.now
      while round &- first < Self.chunkRoundCount && round < Self.roundCount {
        round &+= 1
        there.storeReleasing(round)
        while back.loadAcquiring() != round {}
      }
      let time = MonotonicTime.now.nanoseconds(since: start)
      if round > first { chunks.append(Double(time) / Double(round &- first) / 2) }
    }
    return chunks.sorted()[chunks.count / 2]
  }

  func answer() {
    for round in 1...Self.roundCount {
      while there.loadAcquiring() != round {}
      back.storeReleasing(round)
    }
  }
}
