public import FabricPlatform

/// Why a network interface cannot be had.
public enum InterfaceError: Error, Sendable, CustomStringConvertible {
  /// What was to be done, and what the system said.
  case system(String, Errno)
  case invalidName(String)
  /// No Ethernet interface.
  case foreign(String)
  /// It is there, and no TAP interface that can be served, with so many queues.
  case unfit(String, queueCount: Int)
  /// Another process serves it, as far as is known this one.
  case taken(String, by: Int32?)

  /// Whether another interface has to be named; otherwise the system lacks something.
  public var isMisuse: Bool {
    switch self {
    case .system: false
    case .invalidName, .foreign, .unfit, .taken: true
    }
  }

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
    case .unfit(let name, let queueCount):
      "expected \(name) to be a TAP interface"
        + (queueCount > 1 ? " with several queues" : "")
        + ", and it is another; give another name, or make one: ip tuntap add dev NAME mode tap"
        + (queueCount > 1 ? " multi_queue" : "") + " user USER"
    case .taken(let name, let process):
      "expected an interface that nobody serves, but \(name) is served by "
        + (process.map { "process \($0)" } ?? "another process")
        + "; end that, or give another name"
    }
  }
}
