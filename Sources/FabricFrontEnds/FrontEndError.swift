/// Why a front end could not start to serve.
public enum FrontEndError: Error, Equatable, Sendable, CustomStringConvertible {
  /// Another subsystem of that name serves from the common layer.
  case subsystem(String)
  /// The address cannot be listened at: what was expected, what came, what to do.
  case listening(address: String, reason: String)
  /// The system lacks something that every front end needs.
  case system(String)

  public var description: String {
    switch self {
    case .subsystem(let words): words
    case .listening(_, let reason): reason
    case .system(let words): words
    }
  }
}
