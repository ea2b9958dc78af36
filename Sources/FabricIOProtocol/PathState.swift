public import FabricWire

/// How good a way to a volume an address of the unit is, as the unit sees it; of the kind of NVM
/// Express's asymmetric namespace access. (IO-60)
public enum PathState: UInt8, Sendable, CaseIterable, CustomStringConvertible {
  /// Among the best.
  case optimised = 0
  /// It works; another one is better.
  case nonOptimised = 1
  /// Not to be used now, though it stands.
  case inaccessible = 2

  public var description: String {
    switch self {
    case .optimised: "optimised"
    case .nonOptimised: "non-optimised"
    case .inaccessible: "inaccessible"
    }
  }

  static func decode(_ byte: UInt8, record: String) throws(ProtocolFault) -> PathState {
    guard let state = PathState(rawValue: byte) else {
      throw .invalidField(record: record, field: "the path's state", found: UInt64(byte))
    }
    return state
  }
}

/// Tells a host that a path's state is another now. (IO-61)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 1 | state: 0 optimised, 1 non-optimised, 2 inaccessible |
/// | 1 | 3 | reserved |
public struct PathStateNotice: Equatable, Sendable {
  public var state: PathState

  public init(_ state: PathState) { self.state = state }

  /// The message's payload.
  public func encoded() -> [UInt8] { [state.rawValue, 0, 0, 0] }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.reservedNotZero`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "a path state notice"
    guard view.byteCount == 4 else {
      throw .wrongByteCount(record: record, expected: 4, found: view.byteCount)
    }
    state = try PathState.decode(view.uint8(at: 0), record: record)
    guard view.uint8(at: 1) == 0, view.uint16(at: 2) == 0 else {
      throw .reservedNotZero(record: record)
    }
  }
}
