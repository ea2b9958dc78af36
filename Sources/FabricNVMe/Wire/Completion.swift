public import FabricWire

/// A completion queue entry: 16 bytes. (Base 1.4, section 4.6; NVMe over Fabrics 1.1, section 2.2)
public struct Completion: Sendable, BitwiseCopyable {
  public static let byteCount = 16

  /// Dwords 0 and 1: what the command says of its result.
  public var result: UInt64
  /// How far the submission queue was read; 0xFFFF where the host does not want to know.
  public var submissionHead: UInt16
  /// The command's.
  public var identifier: UInt16
  public var status: Status

  public init(
    _ identifier: UInt16, _ status: Status, result: UInt64 = 0, submissionHead: UInt16 = 0
  ) {
    self.identifier = identifier
    self.status = status
    self.result = result
    self.submissionHead = submissionHead
  }

  /// Reads an entry; traps when `view` is shorter.
  public init(_ view: WireView) {
    result = view.uint64(at: 0)
    submissionHead = view.uint16(at: 8)
    identifier = view.uint16(at: 12)
    status = Status(rawValue: view.uint16(at: 14) >> 1 & 0x7FF)
  }

  /// Writes the entry; traps when `buffer` is shorter.
  @inline(__always)
  public func encode(into buffer: WireBuffer) {
    buffer.set(result, at: 0)
    buffer.set(submissionHead, at: 8)
    buffer.set(UInt16(0), at: 10)
    buffer.set(identifier, at: 12)
    let doNotRetry: UInt16 = status != .success && status.isFinal ? 0x8000 : 0
    buffer.set(status.rawValue << 1 | doNotRetry, at: 14)
  }
}
