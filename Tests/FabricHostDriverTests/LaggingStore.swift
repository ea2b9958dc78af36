import FabricStorage
import TestSupport

/// A medium that does nothing until it is told to, and then in whatever order: what was submitted may
/// land long after whoever submitted it has gone. Confined to the test's thread.
final class LaggingStore: Store, @unchecked Sendable {
  let base: MemoryStore
  fileprivate var queues: [LaggingQueue] = []
  /// The first byte of each write that has landed, with its block, in the order of landing.
  private(set) var landed: [(block: UInt64, value: UInt8)] = []

  init(blockCount: UInt64) throws {
    base = try MemoryStore(byteCount: blockCount * 4096)
  }

  var blockByteCount: UInt32 { base.blockByteCount }
  var blockCount: UInt64 { base.blockCount }
  var isReadOnly: Bool { false }
  var directMemory: DirectMemory? { nil }
  var hasUncorrectableBlocks: Bool { false }
  var accessDescription: String { "lagging" }

  func makeQueue(depth: Int) throws(StoreError) -> any StoreQueue {
    let queue = LaggingQueue(self, try base.makeQueue(depth: depth), depth: depth)
    queues.append(queue)
    return queue
  }

  /// Requests that have not landed.
  var waitingCount: Int { queues.reduce(0) { $0 + $1.waiting.count } }

  /// Lets one of those that wait land.
  func land(using random: inout SeededGenerator) {
    let filled = queues.filter { !$0.waiting.isEmpty }
    guard let queue = filled.randomElement(using: &random) else { return }
    queue.land(Int.random(in: 0..<queue.waiting.count, using: &random))
  }

  fileprivate func note(_ request: BlockRequest) {
    guard request.operation == .write,
      let bytes = unsafe UnsafeRawPointer(bitPattern: UInt(request.address))
    else { return }
    landed.append((request.block, unsafe bytes.load(as: UInt8.self)))
  }
}

final class LaggingQueue: StoreQueue {
  let depth: Int
  private unowned let store: LaggingStore
  private let base: any StoreQueue
  fileprivate var waiting: [BlockRequest] = []

  init(_ store: LaggingStore, _ base: any StoreQueue, depth: Int) {
    self.store = store
    self.base = base
    self.depth = depth
  }

  var inFlightCount: Int { waiting.count + base.inFlightCount }
  var descriptor: CInt? { nil }
  func arm() -> Bool { base.inFlightCount == 0 }
  func flushSubmissions() {}
  func waitForCompletion() {}

  func submit(_ requests: Span<BlockRequest>) -> Int {
    for index in requests.indices { waiting.append(requests[index]) }
    return requests.count
  }

  func poll(into batch: CompletionBatch) -> Int { base.poll(into: batch) }

  fileprivate func land(_ index: Int) {
    let request = waiting.remove(at: index)
    store.note(request)
    let one = [request]
    _ = base.submit(one.span)
  }
}
