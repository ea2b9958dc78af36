/// What both sides of a block I/O channel must agree on. The clauses are in `Specs/IOProtocol.md`.
public enum IOProtocol {
  /// The version that this code speaks. (IO-3)
  public static let version: UInt16 = 1
  /// The first four bytes of each opening, `CFIO` in ASCII. (IO-2)
  public static let mark: UInt32 = 0x4F49_4643
  /// The longest name of a host, unit or volume, in bytes of UTF-8. (IO-12)
  public static let maximumNameByteCount = 64
  /// The longest opening, in bytes. (IO-10)
  public static let maximumOpeningByteCount = 128
}

/// What a message on a block I/O channel is. (IO-20)
public enum MessageKind: UInt16, Sendable, CaseIterable {
  /// Host to unit: a `CommandCapsule`.
  case command = 1
  /// Unit to host: a `ResponseCapsule`.
  case response = 2
  /// Unit to host: older connections of the session are fenced, commands may come. No payload.
  case ready = 3
  /// Host to unit: which volume comes after a name? A `VolumeQuery`.
  case volumeQuery = 4
  /// Unit to host: a `VolumeEntry`.
  case volumeEntry = 5
  /// Host to unit: a `FenceRequest`.
  case fence = 6
  /// Unit to host: a `FenceAnswer`.
  case fenced = 7
  /// Unit to host: a `PathStateNotice`.
  case pathState = 8
  /// Host to unit: where else is the unit? An `AddressQuery`.
  case addressQuery = 9
  /// Unit to host: an `AddressEntry`.
  case addressEntry = 10
  /// Host to unit: a `ControlCall`.
  case control = 11
  /// Unit to host: a `ControlAnswer`.
  case controlAnswer = 12
}

/// Names a command in flight: a slot of the host's table and the slot's generation, so that a late
/// response to a recycled slot is recognised. A push can name 31 bits, so that is all there are.
/// (IO-22)
public struct RequestTag: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32

  @inlinable
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  @inlinable
  public init(index: UInt16, generation: UInt16) {
    rawValue = UInt32(generation & 0x7FFF) << 16 | UInt32(index)
  }

  /// Whether a push can name it.
  @inlinable public var isValid: Bool { rawValue <= 0x7FFF_FFFF }
  @inlinable public var index: Int { Int(rawValue & 0xFFFF) }
  @inlinable public var generation: UInt16 { UInt16(truncatingIfNeeded: rawValue >> 16) }
}
