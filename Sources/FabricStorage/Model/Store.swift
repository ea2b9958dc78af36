/// Memory that holds a store's blocks, one after the other.
public struct DirectMemory: Equatable, Sendable {
  /// The first block's first byte, in this process.
  public let address: UInt64
  public let byteCount: UInt64

  public init(address: UInt64, byteCount: UInt64) {
    self.address = address
    self.byteCount = byteCount
  }
}

/// Blocks in a row that a store keeps alike.
public struct BlockExtent: Equatable, Sendable {
  /// At least 1.
  public let blockCount: UInt64
  /// Whether they have space of their own. Those without read as zeroes.
  public let isAllocated: Bool

  public init(blockCount: UInt64, isAllocated: Bool) {
    self.blockCount = blockCount
    self.isAllocated = isAllocated
  }
}

/// Where a volume's blocks are kept.
///
/// Thread rule: every member may be used on any thread; the queues that it makes may not.
/// Requests reach a store through a volume's port, which has validated them: a store trusts them.
public protocol Store: AnyObject, Sendable {
  /// 512 or 4096.
  var blockByteCount: UInt32 { get }
  /// How many blocks there are; never becomes less.
  var blockCount: UInt64 { get }
  var isReadOnly: Bool { get }
  /// The blocks themselves, for a store that keeps them in memory: a fabric may read and write them
  /// there while `hasUncorrectableBlocks` is false.
  var directMemory: DirectMemory? { get }
  /// Whether some block was made unreadable, so that every access must pass through a queue.
  var hasUncorrectableBlocks: Bool { get }
  /// One line about what the blocks are kept on and how it is reached.
  var accessDescription: String { get }

  /// Looks whether what the blocks are kept on has become larger, and from then on has so many blocks,
  /// as far as they are whole. By default nothing grows. Some system calls.
  ///
  /// - Returns: whether there are more blocks than before.
  func grow() -> Bool

  /// How the first of some blocks are kept, and how many behind them likewise; a system call or two.
  /// By default all have space.
  ///
  /// - Parameter blocks: not empty, inside the store.
  func extent(of blocks: Range<UInt64>) -> BlockExtent

  /// A new way to submit requests, for one thread.
  ///
  /// - Parameter depth: the most requests that may be in flight; 1 to 32768.
  func makeQueue(depth: Int) throws(StoreError) -> any StoreQueue
}

extension Store {
  public func grow() -> Bool { false }

  public func extent(of blocks: Range<UInt64>) -> BlockExtent {
    BlockExtent(blockCount: UInt64(blocks.count), isAllocated: true)
  }
}

/// A bounded way to submit requests to a store and reap their ends.
///
/// Confined to the thread of its first `submit`, the last release included. Requests in flight at
/// once have no order among each other; a request that was submitted after another's completion
/// was polled sees that one's effect, through whatever queue.
public protocol StoreQueue: AnyObject {
  /// The most requests that may be in flight.
  var depth: Int { get }
  /// Requests taken whose completion has not been polled.
  var inFlightCount: Int { get }

  /// Takes requests from the front until `depth` are in flight.
  ///
  /// - Returns: how many were taken. The kernel may not know of them before `flushSubmissions`.
  func submit(_ requests: Span<BlockRequest>) -> Int
  /// Hands what was taken to the kernel: one system call for every four requests at most.
  func flushSubmissions()
  /// Appends completions to `batch` until it is full or there are none. Makes no system call
  /// while nothing has ended.
  ///
  /// - Returns: how many were appended.
  func poll(into batch: CompletionBatch) -> Int

  /// Becomes readable when a poll would find something, once `arm` has answered true; nil when
  /// completions never come from elsewhere.
  var descriptor: CInt? { get }
  /// Prepares for sleep on `descriptor`. False when a poll would find something now: do not sleep.
  func arm() -> Bool
  /// Hands over what was taken and blocks until a poll would find something; returns at once when
  /// nothing is in flight.
  func waitForCompletion()
}

extension StoreQueue {
  /// Waits for everything in flight and gives every completion to `handle`.
  public func drain(_ handle: (BlockCompletion) -> Void = { _ in }) {
    let batch = CompletionBatch(capacity: max(1, min(depth, 64)))
    while inFlightCount > 0 {
      waitForCompletion()
      batch.removeAll()
      _ = poll(into: batch)
      for index in 0..<batch.count { handle(batch[index]) }
    }
  }
}

/// The depths that a queue may have.
let queueDepths = 1...32768
