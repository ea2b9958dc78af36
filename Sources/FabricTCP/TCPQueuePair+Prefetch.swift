import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import Synchronization

/// Bringing near what a poll will touch, while others are polled: with many connections nothing of
/// one is in the cache any more when its turn comes again.
extension TCPQueuePair {
  /// Bytes of the object itself.
  static let prefetchedByteCount = 320

  /// The objects that it consists of.
  func prefetchParts() {
    UncountedReference(receiver).prefetch(byteCount: 256)
    UncountedReference(inbound).prefetch(byteCount: 192)
    UncountedReference(output).prefetch(byteCount: 256)
    UncountedReference(train).prefetch(byteCount: 128)
    UncountedReference(receiveQueue).prefetch(byteCount: 128)
  }

  /// What those point to.
  func prefetchContents() {
    receiver.prefetch()
    receiveQueue.prefetchNext()
    let slot = Int(truncatingIfNeeded: postedCount.load(ordering: .relaxed)) & entryMask
    unsafe prefetch(entries + slot, byteCount: 128)
  }
}
