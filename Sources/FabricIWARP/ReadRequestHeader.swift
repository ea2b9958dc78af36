public import FabricVerbs
public import FabricWire

/// What an RDMA read request asks for; the payload of its only segment. (RFC 5040 section 4.4)
///
/// Offset 0: the requester's key u32, 4: its offset u64, 12: bytes u32, 16: the responder's key u32,
/// 20: its offset u64.
public struct ReadRequestHeader: Equatable, Sendable {
  public static let byteCount = 28

  public var sinkKey: RemoteKey
  public var sinkOffset: UInt64
  public var readByteCount: UInt32
  public var sourceKey: RemoteKey
  public var sourceOffset: UInt64

  public init(
    sinkKey: RemoteKey, sinkOffset: UInt64, byteCount: UInt32, sourceKey: RemoteKey,
    sourceOffset: UInt64
  ) {
    self.sinkKey = sinkKey
    self.sinkOffset = sinkOffset
    readByteCount = byteCount
    self.sourceKey = sourceKey
    self.sourceOffset = sourceOffset
  }

  /// Nil unless `payload` has exactly its length.
  public init?(_ payload: WireView) {
    guard payload.byteCount == Self.byteCount else { return nil }
    sinkKey = RemoteKey(rawValue: payload.bigUInt32(at: 0))
    sinkOffset = payload.bigUInt64(at: 4)
    readByteCount = payload.bigUInt32(at: 12)
    sourceKey = RemoteKey(rawValue: payload.bigUInt32(at: 16))
    sourceOffset = payload.bigUInt64(at: 20)
  }

  public func write(to buffer: WireBuffer) {
    buffer.setBig(sinkKey.rawValue, at: 0)
    buffer.setBig(sinkOffset, at: 4)
    buffer.setBig(readByteCount, at: 12)
    buffer.setBig(sourceKey.rawValue, at: 16)
    buffer.setBig(sourceOffset, at: 20)
  }
}
