public import FabricBounded
public import FabricWire

/// Records that lie one behind the other.
public struct FrameRun: Sendable, BitwiseCopyable {
  /// Of the records.
  public private(set) var byteCount = 0
  public private(set) var frameCount = 0
  /// Of the frames in them.
  public private(set) var frameByteCount = 0

  public init() {}

  /// One more record, behind the others.
  public mutating func add(frameByteCount count: Int) {
    byteCount &+= FrameRecord.byteCount(ofFrame: count)
    frameCount &+= 1
    frameByteCount &+= count
  }
}

/// Places of one size in registered memory, from which frames are sent. Confined to one thread.
@safe
public final class FrameSlots {
  public let byteCount: Int
  public let free: IndexPool
  private let base: UInt64

  /// - Parameter address: of memory of `count` times `byteCount`, which lives as long as this does.
  @unsafe
  public init(address: UInt64, count: Int, byteCount: Int) {
    base = address
    self.byteCount = byteCount
    free = IndexPool(capacity: count)
  }

  /// Bytes of one slot: as many as the buffers that peers advertise by default.
  public static let usualByteCount = 128 << 10

  public func address(of slot: Int) -> UInt64 { base &+ UInt64(slot &* byteCount) }

  public func buffer(_ slot: Int) -> WireBuffer {
    let place = unsafe UnsafeMutableRawPointer(bitPattern: UInt(address(of: slot)))
    return unsafe WireBuffer(place!, byteCount: byteCount)
  }
}
