public import FabricWire

/// What one half of a NIC has counted since it was made: 16 numbers of 8 bytes, in the order of their
/// declaration. (NI-10)
public struct NICStatistics: Equatable, Sendable, BitwiseCopyable {
  /// Frames that came from the peer and were taken, and their bytes.
  public var receivedFrameCount: UInt64 = 0
  public var receivedByteCount: UInt64 = 0
  /// Frames that went to the peer, and their bytes.
  public var sentFrameCount: UInt64 = 0
  public var sentByteCount: UInt64 = 0
  /// Messages that they went in, and of these those that were written to the peer's buffers.
  public var sentMessageCount: UInt64 = 0
  public var transferCount: UInt64 = 0
  /// How often the peer had no receive or no buffer free.
  public var stallCount: UInt64 = 0
  // Frames that were dropped, and why.
  /// Shorter than a header.
  public var runtCount: UInt64 = 0
  /// Longer than the MTU, without being segments still to be made.
  public var oversizeCount: UInt64 = 0
  /// From an address that is not the sender's.
  public var spoofedCount: UInt64 = 0
  /// With a virtio-net header that contradicts its frame.
  public var badHeaderCount: UInt64 = 0
  /// To a group, beyond what a host may send of these.
  public var floodCount: UInt64 = 0
  /// To an address that nobody has.
  public var unknownCount: UInt64 = 0
  /// For a host that has taken nothing for too long, or is away.
  public var stuckCount: UInt64 = 0
  /// That the interface did not take.
  public var refusedCount: UInt64 = 0
  /// That came to the interface while the kernel had no room for them.
  public var missedCount: UInt64 = 0

  public init() {}

  public static let byteCount = 16 * 8

  /// Frames that went nowhere.
  public var dropCount: UInt64 {
    runtCount &+ oversizeCount &+ spoofedCount &+ badHeaderCount &+ floodCount &+ unknownCount
      &+ stuckCount &+ refusedCount &+ missedCount
  }

  /// What each counts, for people and programs, in order.
  public static let fields:
    [(name: String, path: any WritableKeyPath<NICStatistics, UInt64> & Sendable)] = [
      ("received frames", \.receivedFrameCount), ("received bytes", \.receivedByteCount),
      ("sent frames", \.sentFrameCount), ("sent bytes", \.sentByteCount),
      ("sent messages", \.sentMessageCount), ("transfers", \.transferCount),
      ("stalls", \.stallCount), ("runts", \.runtCount), ("oversize", \.oversizeCount),
      ("spoofed", \.spoofedCount), ("bad headers", \.badHeaderCount), ("floods", \.floodCount),
      ("unknown", \.unknownCount), ("stuck", \.stuckCount), ("refused", \.refusedCount),
      ("missed", \.missedCount),
    ]

  public var encoded: [UInt8] {
    var writer = WireWriter()
    for field in Self.fields { writer.append(self[keyPath: field.path]) }
    return writer.bytes
  }

  public init(decoding view: WireView) throws(NICFault) {
    guard view.byteCount == Self.byteCount else {
      throw .wrongByteCount(
        record: "statistics", expected: Self.byteCount, found: view.byteCount)
    }
    for (index, field) in Self.fields.enumerated() {
      self[keyPath: field.path] = view.uint64(at: index * 8)
    }
  }
}
