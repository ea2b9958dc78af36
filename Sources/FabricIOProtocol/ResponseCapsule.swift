public import FabricStorage
public import FabricWire

/// How a command ended, 16 bytes. (IO-34)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | tag |
/// | 4 | 2 | status |
/// | 8 | 4 | bytes transferred |
public struct ResponseCapsule: Equatable, Sendable, BitwiseCopyable {
  public static let byteCount = 16

  public var tag: RequestTag
  public var status: StatusCode
  /// Bytes moved: all on success, those ahead of the bad block when the medium failed.
  public var transferredByteCount: UInt32

  @inlinable
  public init(tag: RequestTag, status: BlockStatus, transferredByteCount: UInt32 = 0) {
    self.tag = tag
    self.status = StatusCode(status)
    self.transferredByteCount = transferredByteCount
  }

  /// Reads a capsule that a peer sent.
  ///
  /// - Throws: `.wrongByteCount`, `.reservedNotZero`. An unknown status is no error: it reads as
  ///   `internalError`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    guard view.byteCount == Self.byteCount else {
      throw .wrongByteCount(
        record: "a response", expected: Self.byteCount, found: view.byteCount)
    }
    guard view.uint16(at: 6) == 0, view.uint32(at: 12) == 0 else {
      throw .reservedNotZero(record: "a response")
    }
    tag = RequestTag(rawValue: view.uint32(at: 0))
    status = StatusCode(rawValue: view.uint16(at: 4))
    transferredByteCount = view.uint32(at: 8)
  }

  /// Writes the capsule to the first 16 bytes of `buffer`; traps when that is shorter.
  @inlinable
  public func encode(into buffer: WireBuffer) {
    buffer.set(tag.rawValue, at: 0)
    buffer.set(status.rawValue, at: 4)
    buffer.set(0 as UInt16, at: 6)
    buffer.set(transferredByteCount, at: 8)
    buffer.set(0 as UInt32, at: 12)
  }
}
