public import FabricPlatform
import FabricWire

/// Where the subsystem can be reached: an entry of the discovery log. (NVMe over Fabrics 1.1, figure 39)
public struct DiscoveryEntry: Hashable, Sendable {
  public enum Transport: UInt8, Sendable {
    case rdma = 1
    case tcp = 3
  }

  /// An address without its port.
  public struct Host: Hashable, Sendable {
    /// Of 4 bytes, else of 16.
    public var isIPv4: Bool
    public var text: String

    public init(isIPv4: Bool, text: String) {
      self.isIPv4 = isIPv4
      self.text = text
    }

    public init(_ address: InternetAddress) {
      self.init(isIPv4: address.host.count == 4, text: address.hostDescription)
    }
  }

  public var transport: Transport
  /// Nil: every address of the machine; who asks is told the one that it asked at.
  public var host: Host?
  public var port: UInt16

  public init(transport: Transport, host: Host?, port: UInt16) {
    self.transport = transport
    self.host = host
    self.port = port
  }

  /// The way in of a listener.
  public init(transport: Transport, at address: InternetAddress) {
    let isWildcard = address.host.allSatisfy { $0 == 0 }
    self.init(
      transport: transport, host: isWildcard ? nil : Host(address), port: address.port)
  }

  static let byteCount = 1024

  /// - Parameters:
  ///   - portNumber: tells the ways in apart.
  ///   - host: in place of none.
  func encode(
    into buffer: WireBuffer, subsystem: String, portNumber: UInt16, host asked: Host?
  ) {
    let host = self.host ?? asked ?? Host(isIPv4: true, text: "0.0.0.0")
    buffer.slice(0, Self.byteCount).clear()
    buffer.set(transport.rawValue, at: 0)
    buffer.set(UInt8(host.isIPv4 ? 1 : 2), at: 1)
    // An NVM subsystem.
    buffer.set(UInt8(2), at: 2)
    // No secure channel is asked for.
    buffer.set(UInt8(2), at: 3)
    buffer.set(portNumber, at: 4)
    // Controllers are made as hosts connect.
    buffer.set(UInt16(0xFFFF), at: 6)
    buffer.set(Self.adminQueueSize, at: 8)
    buffer.copy(padded("\(port)", to: 32), at: 32)
    buffer.copy(Array(subsystem.utf8.prefix(255)), at: 256)
    buffer.copy(padded(host.text, to: 256), at: 512)
    if transport == .rdma {
      // A reliable connection, of whatever provider, by the connection manager.
      buffer.set(UInt8(1), at: 768)
      buffer.set(UInt8(1), at: 769)
      buffer.set(UInt8(1), at: 770)
    }
  }

  /// Entries of an admin queue that a host may ask for.
  static let adminQueueSize: UInt16 = 128
}
