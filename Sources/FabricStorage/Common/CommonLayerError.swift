/// Why the common layer refused a call.
public enum CommonLayerError: Error, Equatable, Sendable, CustomStringConvertible {
  /// A volume of that name is there already.
  case duplicateVolume(name: String)
  /// A subsystem of that name is registered already.
  case duplicateSubsystem(name: String)
  /// No volume has that name.
  case noSuchVolume(name: String, available: [String])
  /// The volume cannot go while ports are open on it.
  case volumeInUse(name: String, portCount: Int)
  /// A port for writing was asked of a volume that may only be read.
  case readOnlyVolume(name: String)
  /// The subsystem has been deregistered.
  case notRegistered(name: String)
  /// The store could not be used.
  case store(StoreError)

  public var description: String {
    switch self {
    case .duplicateVolume(let name):
      "expected a new volume name, \"\(name)\" is taken; give another name"
    case .duplicateSubsystem(let name):
      "expected a new subsystem name, \"\(name)\" is registered; deregister that one first"
    case .noSuchVolume(let name, let available):
      available.isEmpty
        ? "expected volume \"\(name)\" to be served here, no volume is: check the address"
        : "expected one of the volumes \(available.joined(separator: ", ")), got \"\(name)\"; "
          + "correct the name"
    case .volumeInUse(let name, let portCount):
      "expected volume \"\(name)\" to be idle, \(portCount) ports are open on it; close them first"
    case .readOnlyVolume(let name):
      "expected to write volume \"\(name)\", it may only be read; attach it read-only"
    case .notRegistered(let name):
      "expected subsystem \"\(name)\" to be registered, it is not any more"
    case .store(let error): error.description
    }
  }
}
