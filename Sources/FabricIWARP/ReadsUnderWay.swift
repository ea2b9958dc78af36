import FabricBounded
import FabricVerbs

/// RDMA reads that this side has asked for, in the order in which their responses come.
struct ReadsUnderWay {
  struct Read: BitwiseCopyable {
    var key: RemoteKey
    var offset: UInt64
    var byteCount: Int
  }

  private var reads = RingQueue<Read>()
  /// Bytes of the oldest read's response that have come.
  private(set) var doneByteCount = 0

  var isAtBeginning: Bool { doneByteCount == 0 }

  mutating func append(_ read: Read) { reads.append(read) }

  /// Takes the next segment of the oldest read's response; false when it is not that.
  mutating func take(key: RemoteKey, offset: UInt64, byteCount: Int, _ isLast: Bool) -> Bool {
    guard let read = reads.first else { return false }
    guard key == read.key, offset == read.offset &+ UInt64(doneByteCount),
      byteCount <= read.byteCount - doneByteCount,
      isLast == (byteCount == read.byteCount - doneByteCount)
    else { return false }
    doneByteCount += byteCount
    if isLast {
      doneByteCount = 0
      reads.popFirst()
    }
    return true
  }
}
