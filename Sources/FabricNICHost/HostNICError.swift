public import FabricMessaging
public import FabricVerbs

/// Why an interface has no unit, and will have none.
public enum HostNICError: Error, Sendable, Equatable, CustomStringConvertible {
  /// The first attempt to connect failed.
  case opening(ChannelOpenError, unit: FabricAddress)
  /// What was reached speaks the protocol, and has not what it takes.
  case unfit(String)
  /// The interface cannot be used, or was removed by others.
  case interface(String)

  public var description: String {
    switch self {
    case .opening(.refused(let reason), _): "the unit refuses: \(reason)"
    case .opening(let error, let unit): "\(unit): \(error)"
    case .unfit(let words), .interface(let words): words
    }
  }
}
