public import FabricPlatform

/// Why a network interface cannot be had.
public enum InterfaceError: Error, Sendable, CustomStringConvertible {
  /// What was to be done, and what the system said.
  case system(String, Errno)
  case invalidName(String)
  /// No Ethernet interface.
  case foreign(String)

  public var description: String {
    switch self {
    case .system(let words, .notPermitted), .system(let words, .permissionDenied):
      "expected to \(words), which wants root (CAP_NET_ADMIN, and for an interface CAP_NET_RAW)"
    case .system(let words, .noSuchFileOrDirectory):
      "expected to \(words), got \"\(Errno.noSuchFileOrDirectory)\": is the kernel's tun driver there?"
    case .system(let words, let error): "expected to \(words), got \"\(error)\""
    case .invalidName(let name):
      "expected the name of an interface, 1 to 15 bytes without \"/\", \":\" and blanks, got \"\(name)\""
    case .foreign(let name): "expected \(name) to be an Ethernet interface"
    }
  }
}
