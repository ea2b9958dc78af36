import CFabricLinux
import FabricPlatform
import Synchronization

/// Memory for output trains: lent to those under way, last in first out, so that many connections
/// that send one after the other all write to the same few lines of the cache, and an idle
/// connection has none.
///
/// Threads: any.
@safe
final class TrainMemory: Sendable {
  static let scratchByteCount = 12 << 10
  static let pieceLimit = 96
  private static let byteCount =
    unsafe scratchByteCount + pieceLimit * MemoryLayout<iovec>.stride

  /// What one train has: headers and short payloads, and behind them the list of pieces.
  @safe
  struct Block: @unchecked Sendable {
    let scratch: UnsafeMutableRawPointer
    var pieces: UnsafeMutablePointer<iovec> {
      unsafe (scratch + scratchByteCount).assumingMemoryBound(to: iovec.self)
    }
  }

  /// The one that was given back last; 0: none. Mostly one train is under way at a time, and no more
  /// than this is touched.
  private let last = Atomic<UInt>(0)
  private let lock = FutexLock()
  /// Under `lock`: the others. As many as were ever lent at once.
  @safe private nonisolated(unsafe) var free: [Block] = []

  deinit {
    for block in free { unsafe block.scratch.deallocate() }
    unsafe UnsafeMutableRawPointer(bitPattern: last.load(ordering: .relaxed))?.deallocate()
  }

  func take() -> Block {
    let word = last.exchange(0, ordering: .acquiring)
    if let scratch = unsafe UnsafeMutableRawPointer(bitPattern: word) {
      return unsafe Block(scratch: scratch)
    }
    return takeOther()
  }

  @inline(never)
  private func takeOther() -> Block {
    lock.lock()
    let block = free.popLast()
    lock.unlock()
    if let block { return block }
    return unsafe Block(scratch: .allocate(byteCount: Self.byteCount, alignment: 64))
  }

  func giveBack(_ block: Block) {
    let former = unsafe last.exchange(
      UInt(bitPattern: block.scratch), ordering: .acquiringAndReleasing)
    if let scratch = unsafe UnsafeMutableRawPointer(bitPattern: former) {
      keep(unsafe Block(scratch: scratch))
    }
  }

  @inline(never)
  private func keep(_ block: Block) {
    lock.lock()
    free.append(block)
    lock.unlock()
  }
}
