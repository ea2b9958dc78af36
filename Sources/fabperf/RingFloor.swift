import FabricPlatform
import Synchronization

/// The machine's own floor of message rate: records of a message's size through a bare ring between
/// the two processes, published sixteen at a time, read and thrown away.
@safe
final class RingFloor {
  private static let recordCount: UInt64 = 20_000_000
  private static let capacity: UInt64 = 4096
  private static let batch: UInt64 = 16
  private static let ringOffset = 4096

  /// Where the peer finds the ring: through this process's descriptor.
  let descriptor: Int32
  /// Bytes of a record: the message and 16 of header, whole words.
  private let recordByteCount: Int
  private let mapping: Mapping
  private let head: SharedWord64
  private let tail: SharedWord64
  private let ring: UnsafeMutableRawPointer

  private static func byteCount(_ recordByteCount: Int) -> Int {
    wholePages(ringOffset + Int(capacity) * recordByteCount)
  }

  /// Makes the ring for messages of `size` bytes.
  convenience init(size: Int) throws {
    let record = (size + 16 + 7) / 8 * 8
    let file = try MemoryFile(name: "fabperf-ring", byteCount: Self.byteCount(record))
    // Stays open until the process ends.
    self.init(
      try file.map(.readWrite), record, try file.descriptor.duplicate().release())
  }

  /// Opens the ring that process made.
  convenience init(process: Int32, descriptor: Int32, size: Int) throws {
    let record = (size + 16 + 7) / 8 * 8
    let file = try Descriptor.opening("/proc/\(process)/fd/\(descriptor)")
    self.init(
      try Mapping.shared(file, byteCount: Self.byteCount(record), access: .readWrite), record,
      descriptor)
  }

  private init(_ mapping: Mapping, _ recordByteCount: Int, _ descriptor: Int32) {
    self.mapping = mapping
    self.recordByteCount = recordByteCount
    self.descriptor = descriptor
    let base = unsafe mapping.bytes.baseAddress!
    unsafe head = SharedWord64(at: base)
    unsafe tail = SharedWord64(at: base + 128)
    unsafe ring = base + Self.ringOffset
  }

  @inline(__always)
  private func record(_ index: UInt64) -> UnsafeMutableRawPointer {
    unsafe ring + Int(index & (Self.capacity - 1)) * recordByteCount
  }

  /// Records a second, from the first published to the last read.
  func measure() -> Double {
    unsafe withUnsafeTemporaryAllocation(byteCount: recordByteCount, alignment: 64) { message in
      unsafe message.initializeMemory(as: UInt8.self, repeating: 0x5a)
      var known: UInt64 = 0
      // The peer is there once it has said so.
      while tail.loadAcquiring() != .max { spinHint() }
      tail.store(0)
      let start = MonotonicTime.now
      for index in 0..<Self.recordCount {
        while index - known >= Self.capacity { known = tail.loadAcquiring() }
        unsafe record(index).copyMemory(from: message.baseAddress!, byteCount: recordByteCount)
        if (index + 1) % Self.batch == 0 { head.storeReleasing(index + 1) }
      }
      while tail.loadAcquiring() != Self.recordCount {}
      return Double(Self.recordCount) * 1e9
        / Double(MonotonicTime.now.nanoseconds(since: start))
    }
  }

  func answer() {
    unsafe withUnsafeTemporaryAllocation(byteCount: recordByteCount, alignment: 64) { message in
      tail.storeReleasing(.max)
      var index: UInt64 = 0
      while index < Self.recordCount {
        let end = head.loadAcquiring()
        while index < end {
          unsafe message.baseAddress!.copyMemory(
            from: record(index), byteCount: recordByteCount)
          index += 1
        }
        if end > 0 { tail.storeReleasing(index) }
      }
    }
  }
}
