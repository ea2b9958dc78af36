public import FabricWire

/// A reply, as the unit makes it and a host reads it. (IT-11 to IT-13, IT-44, IT-61)
public enum ReplyFrame: Equatable, Sendable, BitwiseCopyable {
  /// The usual one: 6 words.
  case success(transferCount: UInt32)
  /// 8 words: what was moved before it went wrong, and the byte where it did.
  case error(
    I2O.ReplyStatus, I2O.BlockStatusCode, transferCount: UInt32, logicalByteAddress: UInt64)
  /// 7 words: the message said nothing sensible.
  case fault(MessageFault)
  /// 8 words: the message was not delivered.
  case failure(I2O.FailureCode)
  /// 5 words, in reply to an abort.
  case aborted(count: UInt32)

  /// The longest.
  public static let maximumByteCount = 32

  @inlinable
  public var byteCount: Int {
    switch self {
    case .aborted: 20
    case .success: 24
    case .fault: 28
    case .error, .failure: 32
    }
  }

  /// Writes a whole frame.
  ///
  /// - Parameters:
  ///   - buffer: of `byteCount` bytes.
  ///   - request: what it answers.
  public func encode(into buffer: WireBuffer, to request: FrameHeader) {
    buffer.clear()
    let isFailure = if case .failure = self { true } else { false }
    request.answer(wordCount: byteCount / 4, isFailure: isFailure).encode(into: buffer)
    switch self {
    case .success(let count):
      buffer.set(count, at: 20)
    case .error(let status, let code, let count, let address):
      buffer.set(code.rawValue, at: 16)
      buffer.set(status.rawValue, at: 19)
      buffer.set(count, at: 20)
      buffer.set(address, at: 24)
    case .fault(let fault):
      buffer.set(fault.status.rawValue, at: 16)
      buffer.set(I2O.ReplyStatus.transactionError.rawValue, at: 19)
      buffer.set(fault.offset, at: 20)
    case .failure(let code):
      buffer.set(I2O.version, at: 16)
      buffer.set(I2O.version, at: 17)
      buffer.set(code.severity, at: 18)
      buffer.set(code.rawValue, at: 19)
    case .aborted(let count):
      buffer.set(count, at: 16)
    }
  }

  /// Reads what a unit sent; nil for what is no reply.
  public static func decode(_ frame: WireView) -> (header: FrameHeader, reply: ReplyFrame)? {
    guard frame.byteCount >= 20, frame.byteCount <= I2O.maximumFrameByteCount else { return nil }
    let header = FrameHeader(frame)
    guard header.version == I2O.version, header.flags.contains(.reply),
      Int(header.wordCount) * 4 == frame.byteCount
    else { return nil }
    if header.flags.contains(.fail) {
      guard frame.byteCount == 32, let code = I2O.FailureCode(rawValue: frame.uint8(at: 19)) else {
        return nil
      }
      return (header, .failure(code))
    }
    if header.function == I2O.Function.abort.rawValue, frame.byteCount == 20 {
      return (header, .aborted(count: frame.uint32(at: 16)))
    }
    guard frame.byteCount >= 24, let status = I2O.ReplyStatus(rawValue: frame.uint8(at: 19)) else {
      return nil
    }
    let detail = frame.uint16(at: 16)
    switch (status, frame.byteCount) {
    case (.success, 24):
      return detail == 0 ? (header, .success(transferCount: frame.uint32(at: 20))) : nil
    case (.transactionError, 28):
      guard let detail = I2O.DetailedStatus(rawValue: detail) else { return nil }
      return (header, .fault(MessageFault(detail, at: Int(frame.uint32(at: 20)))))
    case (.success, _), (.transactionError, _): return nil
    case (_, 32):
      guard let code = I2O.BlockStatusCode(rawValue: detail) else { return nil }
      return (
        header,
        .error(
          status, code, transferCount: frame.uint32(at: 20),
          logicalByteAddress: frame.uint64(at: 24))
      )
    default: return nil
    }
  }
}
