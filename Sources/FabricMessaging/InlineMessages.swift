import FabricPlatform
import FabricVerbs
import FabricWire

/// Where messages are written that the fabric takes at the post: a few lines that stay in the
/// cache, used again after each flush.
@safe
final class InlineMessages {
  /// Bytes that a message may have, at most what the fabric takes inline.
  let byteCount: Int
  private static let stride = 128
  private static let count = 64
  private let base: UnsafeMutableRawPointer
  private var usedCount = 0

  init(fabricLimit: Int) {
    byteCount = min(fabricLimit, Self.stride)
    unsafe base = .allocate(byteCount: Self.count * Self.stride, alignment: 64)
  }

  deinit { unsafe base.deallocate() }

  /// Room for one message, and the element that names its first `byteCount` bytes; nil when it is
  /// too long or too many wait for the next flush.
  @inline(__always)
  func take(byteCount: Int) -> (buffer: WireBuffer, element: ScatterGatherElement)? {
    guard byteCount <= self.byteCount, usedCount < Self.count else { return nil }
    let place = unsafe base + usedCount &* Self.stride
    usedCount &+= 1
    return (
      unsafe WireBuffer(place, byteCount: byteCount),
      ScatterGatherElement(
        address: UInt64(UInt(bitPattern: place)),
        byteCount: UInt32(truncatingIfNeeded: byteCount), localKey: LocalKey(rawValue: 0))
    )
  }

  /// The first ones are used next.
  func prefetch() { unsafe FabricPlatform.prefetch(base, byteCount: 128) }

  /// Everything was posted.
  func reset() { usedCount = 0 }
}
