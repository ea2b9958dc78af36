/// A port of an RDMA device. The corresponding C type is `ibv_port_attr`.
public struct RDMAPort: Equatable, Sendable {
  public enum State: String, Sendable {
    case down
    /// The link is there, and nobody has set the port up yet.
    case initializing
    case armed
    case active
    case unknown
  }

  public enum LinkLayer: String, Sendable {
    case infiniBand = "InfiniBand"
    case ethernet = "Ethernet"
    case unspecified
  }

  public var number: Int
  public var state: State
  public var linkLayer: LinkLayer
  /// The network interface beneath it: `eth0`; nil where the kernel tells of none.
  public var interface: String?
  /// The interface's addresses in words, without those that hold on one link only.
  public var addresses: [String]
  public var gids: [RDMAGID]
  /// Bytes of one packet, as it is now.
  public var packetByteCount: Int
  /// Bytes of one message.
  public var messageByteCount: UInt64

  public init(
    number: Int, state: State, linkLayer: LinkLayer, interface: String? = nil,
    addresses: [String] = [], gids: [RDMAGID] = [], packetByteCount: Int = 0,
    messageByteCount: UInt64 = 0
  ) {
    self.number = number
    self.state = state
    self.linkLayer = linkLayer
    self.interface = interface
    self.addresses = addresses
    self.gids = gids
    self.packetByteCount = packetByteCount
    self.messageByteCount = messageByteCount
  }
}

/// A name of a port on its network. The corresponding C type is `ibv_gid_entry`.
public struct RDMAGID: Equatable, Sendable, CustomStringConvertible {
  public enum Kind: String, Sendable {
    case infiniBand = "InfiniBand"
    case roceV1 = "RoCE v1"
    case roceV2 = "RoCE v2"
    case iWARP
    case unknown
  }

  /// Its place in the port's table.
  public var index: Int
  public var kind: Kind
  /// 16 bytes, in the order of the network.
  public var bytes: [UInt8]
  public var interface: String?

  /// - Precondition: 16 bytes.
  public init(index: Int, kind: Kind, bytes: [UInt8], interface: String? = nil) {
    precondition(bytes.count == 16, "a GID has 16 bytes")
    self.index = index
    self.kind = kind
    self.bytes = bytes
    self.interface = interface
  }

  /// Reaches no further than its link: fe80::/10.
  public var isLinkLocal: Bool { bytes[0] == 0xfe && bytes[1] & 0xc0 == 0x80 }

  /// Nobody has given it: zeroes, or InfiniBand's prefix alone.
  public var isUnset: Bool { bytes[8...].allSatisfy { $0 == 0 } }

  /// The IPv4 address that it stands for, or all of it as an IPv6 address is written.
  public var description: String {
    if bytes[..<10].allSatisfy({ $0 == 0 }), bytes[10] == 0xff, bytes[11] == 0xff {
      return bytes[12...].map { "\($0)" }.joined(separator: ".")
    }
    return IPWords.describe(bytes)
  }
}
