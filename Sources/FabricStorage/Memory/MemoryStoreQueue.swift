import CFabricURing

/// Does every request at the moment of its submission.
final class MemoryStoreQueue: StoreQueue {
  let depth: Int
  private let store: MemoryStore
  private let marks: UncorrectableMap
  private let blockByteCount: UInt64
  private let base: UInt64
  private var ended: CompletionRing

  init(store: MemoryStore, depth: Int) {
    self.store = store
    self.depth = depth
    marks = store.marks
    blockByteCount = UInt64(store.blockByteCount)
    base = store.address
    ended = CompletionRing(capacity: depth)
  }

  var inFlightCount: Int { ended.count }
  var descriptor: CInt? { nil }
  func arm() -> Bool { ended.count == 0 }
  func flushSubmissions() {}
  func waitForCompletion() {}

  func submit(_ requests: Span<BlockRequest>) -> Int {
    let count = min(requests.count, depth &- ended.count)
    for index in 0..<count { ended.push(perform(requests[index])) }
    return count
  }

  func poll(into batch: CompletionBatch) -> Int { ended.move(into: batch) }

  private func perform(_ request: BlockRequest) -> BlockCompletion {
    let blocks = request.blocks
    let byteCount = UInt64(request.blockCount) &* blockByteCount
    let place = unsafe UnsafeMutableRawPointer(
      bitPattern: UInt(base &+ request.block &* blockByteCount))!
    var status = BlockStatus.success
    var moved = request.byteCount
    switch request.operation {
    case .read, .compare:
      if let bad = marks.firstBlock(in: blocks) {
        status = .mediaReadError
        moved = UInt32((bad &- request.block) &* blockByteCount)
      }
      let buffer = unsafe UnsafeMutableRawPointer(bitPattern: UInt(request.address))!
      if request.operation == .read {
        unsafe buffer.copyMemory(from: place, byteCount: Int(moved))
      } else if unsafe memcmp(buffer, place, Int(moved)) != 0 {
        status = .compareFailure
      }
    case .write:
      let buffer = unsafe UnsafeRawPointer(bitPattern: UInt(request.address))!
      unsafe place.copyMemory(from: buffer, byteCount: Int(byteCount))
      status = cleared(blocks)
    case .writeZeroes, .deallocate:
      _ = unsafe memset(place, 0, Int(byteCount))
      status = cleared(blocks)
    case .writeUncorrectable:
      do throws(BlockStatus) { try marks.mark(blocks) } catch { status = error }
    case .flush:
      break
    }
    if status != .success && status != .mediaReadError { moved = 0 }
    return BlockCompletion(tag: request.tag, status: status, transferredByteCount: moved)
  }

  private func cleared(_ blocks: Range<UInt64>) -> BlockStatus {
    if marks.isEmpty { return .success }
    do throws(BlockStatus) { try marks.clear(blocks) } catch { return error }
    return .success
  }
}
