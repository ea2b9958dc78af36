public import FabricPlatform

/// A place where byte streams are accepted.
public enum StreamAddress: Hashable, Sendable, CustomStringConvertible {
  /// TCP. Port 0 lets the system choose one.
  case internet(InternetAddress)
  /// A Unix socket's path.
  case local(path: String)

  /// `1.2.3.4:5`, `[::1]:5`, `unix:/path`.
  public var description: String {
    switch self {
    case .internet(let address): "\(address)"
    case .local(let path): "unix:\(path)"
    }
  }
}

/// Who is at the other end of a stream.
public enum StreamPeer: Hashable, Sendable, CustomStringConvertible {
  case internet(InternetAddress)
  /// A process of this machine, by its number; 0: it is hidden from us.
  case local(processID: Int32)

  public var description: String {
    switch self {
    case .internet(let address): "\(address)"
    case .local(let processID): "process \(processID)"
    }
  }

  /// What limits for each address count it under: TCP peers by their address, those of Unix sockets
  /// by their process.
  public var origin: [UInt8] {
    switch self {
    case .internet(let address): address.host
    case .local(let processID): Self.bytes(of: processID)
    }
  }

  private static func bytes(of number: Int32) -> [UInt8] {
    // Five bytes: never the length of an Internet address.
    [0] + (0..<4).map { UInt8(truncatingIfNeeded: number >> ($0 * 8)) }
  }
}
