public import FabricVerbs

/// Why an I/O unit could not start to serve.
public enum IOUnitError: Error, Sendable, CustomStringConvertible {
  /// The adapter refused something that every unit needs.
  case resource(ResourceError)
  /// Memory for data on its way could not be registered.
  case registration(RegistrationError)
  /// The address cannot be listened at.
  case listening(address: FabricAddress, reason: String)
  /// Another subsystem of that name serves from the common layer.
  case subsystem(String)

  public var description: String {
    switch self {
    case .resource(let error): error.description
    case .registration(let error): error.description
    case .listening(_, let reason): reason
    case .subsystem(let words): words
    }
  }
}
