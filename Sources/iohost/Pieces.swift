import FabricHostDriver
import Synchronization

/// Works through a volume's blocks in pieces, several at a time.
enum Pieces {
  /// Bytes of a piece, and how many are worked on at once.
  static let byteCount = 1 << 20
  static let workerCount = 4

  /// Calls `body` once for each piece of `blocks`, with a buffer of its own: several at once, or one
  /// after the other where the order matters.
  static func forEach(
    of blocks: Range<UInt64>, on volume: RemoteVolume, inOrder: Bool = false,
    _ body: @escaping @Sendable (VolumeBuffer, Range<UInt64>) async throws -> Void
  ) async throws {
    let step = UInt64(byteCount) / UInt64(volume.info.blockByteCount)
    let next = Place(blocks.lowerBound)
    try await withThrowingTaskGroup(of: Void.self) { group in
      for _ in 0..<(inOrder ? 1 : workerCount) {
        group.addTask {
          let buffer = try volume.makeBuffer(byteCount: byteCount)
          while true {
            try Task.checkCancellation()
            guard let piece = next.take(step, upTo: blocks.upperBound) else { return }
            try await body(buffer, piece)
          }
        }
      }
      try await group.waitForAll()
    }
  }

  /// Where the next piece begins.
  private final class Place: Sendable {
    private let block: Mutex<UInt64>
    init(_ block: UInt64) { self.block = Mutex(block) }

    func take(_ step: UInt64, upTo end: UInt64) -> Range<UInt64>? {
      block.withLock { block in
        guard block < end else { return nil }
        let first = block
        block += min(step, end - block)
        return first..<block
      }
    }
  }
}
