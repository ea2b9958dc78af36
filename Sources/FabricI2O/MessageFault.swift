/// What is wrong with a request whose header is sound: it is answered with `transactionError`.
/// (IT-13)
public struct MessageFault: Error, Equatable, Sendable, BitwiseCopyable {
  public let status: I2O.DetailedStatus
  /// Where in the frame the field lies that is at fault, in bytes.
  public let offset: UInt32

  @inlinable
  public init(_ status: I2O.DetailedStatus, at offset: Int) {
    self.status = status
    self.offset = UInt32(truncatingIfNeeded: offset)
  }
}
