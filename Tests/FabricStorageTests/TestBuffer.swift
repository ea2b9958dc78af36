import FabricPlatform
import FabricStorage

/// Page-aligned memory for requests.
final class TestBuffer: Sendable {
  let mapping: Mapping
  var address: UInt64 { mapping.address }

  init(byteCount: Int) {
    mapping = try! Mapping.anonymous(byteCount: byteCount + 4096)
  }

  /// Bytes that depend on `seed`, from `offset`.
  func fill(_ seed: UInt8, byteCount: Int, at offset: Int = 0) {
    let bytes = unsafe mapping.bytes
    for index in 0..<byteCount { unsafe bytes[offset + index] = Self.byte(seed, index) }
  }

  func bytes(_ count: Int, at offset: Int = 0) -> [UInt8] {
    unsafe Array(mapping.bytes[offset..<offset + count])
  }

  static func pattern(_ seed: UInt8, _ byteCount: Int) -> [UInt8] {
    (0..<byteCount).map { byte(seed, $0) }
  }

  private static func byte(_ seed: UInt8, _ index: Int) -> UInt8 {
    seed &+ UInt8(truncatingIfNeeded: index &* 7 &+ index >> 8)
  }
}

extension StoreQueue {
  /// Submits everything, however often that takes, and returns the completions in tag order.
  func run(_ requests: [BlockRequest]) -> [BlockCompletion] {
    let batch = CompletionBatch(capacity: 64)
    var ends: [BlockCompletion] = []
    var next = 0
    while ends.count < requests.count {
      if next < requests.count {
        next += submit(requests.span.extracting(next..<requests.count))
        flushSubmissions()
      }
      waitForCompletion()
      batch.removeAll()
      _ = poll(into: batch)
      for index in 0..<batch.count { ends.append(batch[index]) }
    }
    return ends.sorted { $0.tag < $1.tag }
  }

  /// Runs one request.
  func run(_ request: BlockRequest) -> BlockCompletion { run([request])[0] }
}

extension BlockRequest {
  /// A request for `count` blocks of `store` with a buffer of the right length.
  static func on(
    _ store: any Store, _ operation: BlockOperation, _ block: UInt64, _ count: UInt32,
    at address: UInt64 = 0, tag: UInt64 = 0, flags: BlockFlags = []
  ) -> BlockRequest {
    BlockRequest(
      operation, block: block, blockCount: count, address: address,
      byteCount: operation.movesData ? count * store.blockByteCount : 0, tag: tag, flags: flags)
  }
}
