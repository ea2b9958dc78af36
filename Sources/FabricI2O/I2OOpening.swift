import FabricWire

/// What a host says when it connects: the channel's greeting. (IT-1)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | mark `CFI2` |
/// | 4 | 2 | version of this use of channels |
/// | 6 | 1 | length of the host's name |
/// | 7 | 1 | reserved |
/// | 8 | | the host's name |
public struct I2OHostOpening: Equatable, Sendable {
  static let mark: UInt32 = 0x3249_4643
  static let version: UInt16 = 1

  /// 1 to 64 bytes of UTF-8.
  public var hostName: String

  public init(hostName: String) { self.hostName = hostName }

  public func encoded() -> [UInt8] {
    Opening.head(fixed: [UInt8(truncatingIfNeeded: hostName.utf8.count), 0]) + Array(hostName.utf8)
  }

  /// - Throws: `I2OOpeningFault`.
  public init(decoding bytes: [UInt8]) throws(I2OOpeningFault) {
    try Opening.check(bytes, fixedByteCount: 8)
    hostName = try Opening.name(bytes[8...], byteCount: Int(bytes[6]))
    guard bytes[7] == 0 else { throw I2OOpeningFault("a reserved byte that is not 0") }
  }
}

/// The unit's answer. (IT-1)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | mark `CFI2` |
/// | 4 | 2 | version of this use of channels |
/// | 6 | 1 | length of the unit's name |
/// | 7 | 1 | reserved |
/// | 8 | 4 | most bytes that one message transfers |
/// | 12 | | the unit's name |
public struct I2OUnitOpening: Equatable, Sendable {
  public var unitName: String
  public var maximumTransferByteCount: UInt32

  public init(unitName: String, maximumTransferByteCount: UInt32) {
    self.unitName = unitName
    self.maximumTransferByteCount = maximumTransferByteCount
  }

  public func encoded() -> [UInt8] {
    var bytes = Opening.head(fixed: [UInt8(truncatingIfNeeded: unitName.utf8.count), 0])
    for shift in [0, 8, 16, 24] as [UInt32] {
      bytes.append(UInt8(truncatingIfNeeded: maximumTransferByteCount >> shift))
    }
    return bytes + Array(unitName.utf8)
  }

  /// - Throws: `I2OOpeningFault`.
  public init(decoding bytes: [UInt8]) throws(I2OOpeningFault) {
    try Opening.check(bytes, fixedByteCount: 12)
    unitName = try Opening.name(bytes[12...], byteCount: Int(bytes[6]))
    guard bytes[7] == 0 else { throw I2OOpeningFault("a reserved byte that is not 0") }
    maximumTransferByteCount = bytes[8..<12].reversed().reduce(0) { $0 << 8 | UInt32($1) }
  }
}

/// Why an opening was refused.
public struct I2OOpeningFault: Error, Equatable, Sendable, CustomStringConvertible {
  public let found: String
  /// The mark is another's.
  public let isForeign: Bool
  init(_ found: String, isForeign: Bool = false) {
    self.found = found
    self.isForeign = isForeign
  }
  public var description: String { "expected the opening of an I2O channel, got \(found)" }
}

private enum Opening {
  static func head(fixed: [UInt8]) -> [UInt8] {
    let mark = I2OHostOpening.mark
    return [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: mark >> ($0 as UInt32)) }
      + [UInt8(I2OHostOpening.version), 0] + fixed
  }

  /// Checks mark and version, whose place no version changes.
  static func check(_ bytes: [UInt8], fixedByteCount: Int) throws(I2OOpeningFault) {
    guard bytes.count >= 6,
      bytes[..<4].reversed().reduce(0, { $0 << 8 | UInt32($1) })
        == I2OHostOpening.mark
    else { throw I2OOpeningFault("\(bytes.count) bytes that begin otherwise", isForeign: true) }
    let version = UInt16(bytes[4]) | UInt16(bytes[5]) << 8
    guard version == I2OHostOpening.version else {
      throw I2OOpeningFault("version \(version) instead of \(I2OHostOpening.version)")
    }
    guard bytes.count >= fixedByteCount else {
      throw I2OOpeningFault("\(bytes.count) bytes, fewer than \(fixedByteCount)")
    }
  }

  static func name(_ bytes: ArraySlice<UInt8>, byteCount: Int) throws(I2OOpeningFault) -> String {
    guard bytes.count == byteCount, (1...64).contains(byteCount) else {
      throw I2OOpeningFault("a name of \(bytes.count) bytes where \(byteCount) of 1 to 64 are said")
    }
    // It goes into logs.
    guard let name = String(validating: bytes, as: UTF8.self),
      bytes.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
    else { throw I2OOpeningFault("a name that is not UTF-8, or has control characters") }
    return name
  }
}
