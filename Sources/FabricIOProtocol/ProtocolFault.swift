/// Why bytes from a peer are not what the protocol says. (IO-4)
public enum ProtocolFault: Error, Equatable, Sendable, CustomStringConvertible {
  /// A fixed-size record came in another size.
  case wrongByteCount(record: String, expected: Int, found: Int)
  /// The opening does not begin with the protocol's mark: it belongs to something else.
  case foreignOpening(found: UInt32)
  /// The peer speaks another version.
  case versionMismatch(expected: UInt16, found: UInt16)
  /// A field holds a value without a meaning.
  case invalidField(record: String, field: String, found: UInt64)
  /// Bytes that must be zero are not.
  case reservedNotZero(record: String)
  /// A name is too long, empty where one is needed, or not UTF-8.
  case invalidName(record: String, field: String)

  /// `CFI2`, which I2O hosts begin with. (IT-1)
  private static let i2oMark: UInt32 = 0x3249_4643

  public var description: String {
    switch self {
    case .wrongByteCount(let record, let expected, let found):
      "expected \(expected) bytes of \(record), got \(found)"
    case .foreignOpening(Self.i2oMark):
      "expected a ChannelFabric block I/O opening, got that of an I2O channel; leave --emulate i2o out, "
        + "or use an address that the unit was given with --i2o"
    case .foreignOpening(let found):
      "expected a ChannelFabric block I/O opening, got one that begins with "
        + "0x\(String(found, radix: 16)); is it the address of something else?"
    case .versionMismatch(let expected, let found):
      "expected block I/O protocol version \(expected), the peer speaks \(found); "
        + "run the same release on both sides"
    case .invalidField(let record, let field, let found):
      "expected a known value for \(field) in \(record), got 0x\(String(found, radix: 16))"
    case .reservedNotZero(let record):
      "expected zeroes in the reserved bytes of \(record); is the peer a newer release?"
    case .invalidName(let record, let field):
      "expected \(field) in \(record) to be 1 to \(IOProtocol.maximumNameByteCount) bytes of UTF-8"
    }
  }
}
