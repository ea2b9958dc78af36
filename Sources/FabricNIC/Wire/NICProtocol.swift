/// What both halves of a split network driver must agree on. The clauses are in `Specs/NIC.md`.
public enum NICProtocol {
  /// The version that this code speaks. (NI-2)
  public static let version: UInt16 = 1
  /// The first four bytes of each opening, `CFNI` in ASCII. (NI-2)
  public static let mark: UInt32 = 0x494E_4643
  /// The longest name of a host, unit or NIC, in bytes of UTF-8. (NI-3)
  public static let maximumNameByteCount = 64
  /// MTUs that a NIC may have.
  public static let mtus = 68...65_521
}

/// What a message is. (NI-10)
public enum NICMessageKind: UInt16, Sendable {
  /// Either way: frames, in the message or in a buffer that it names.
  case frames = 1
  /// Unit to host: a `LinkNotice`.
  case link = 2
  /// Host to unit: an `AddressClaim`.
  case addressClaim = 3
  /// Unit to host: an `AddressAnswer`.
  case addressAnswer = 4
  /// Either way: what has the peer counted? No payload.
  case statisticsQuery = 5
  /// Either way: a `NICStatistics`.
  case statistics = 6
}

/// The length of what can be asked for once, and what is said of it, in the numbers of one rule.
public enum NICFault: Error, Equatable, Sendable, CustomStringConvertible {
  case wrongByteCount(record: String, expected: Int, found: Int)
  case foreignOpening(found: UInt32)
  case versionMismatch(found: UInt16)
  case invalidField(record: String, field: String, found: UInt64)
  case invalidName(record: String, field: String)

  public var description: String {
    switch self {
    case .wrongByteCount(let record, let expected, let found):
      "expected \(record) of \(expected) bytes, got \(found)"
    case .foreignOpening(let found):
      "expected an opening of a network driver's, got one that begins with \(found)"
    case .versionMismatch(let found):
      "expected version \(NICProtocol.version) of the network protocol, the peer speaks \(found): "
        + "update the older side"
    case .invalidField(let record, let field, let found):
      "expected \(field) of \(record) in its range, got \(found)"
    case .invalidName(let record, let field):
      "expected \(field) of \(record) of 1 to \(NICProtocol.maximumNameByteCount) bytes of UTF-8"
    }
  }
}
