public import FabricNIC

/// What a NIC of a unit's is made of.
public struct NICOptions: Sendable {
  /// What joins the hosts to the world.
  public enum Uplink: Sendable, Equatable {
    /// Nothing: they reach each other.
    case none
    /// A TAP interface of the unit's machine, which is made where it is not there.
    case tap(NetworkInterface)
    /// The frames of an interface that is there.
    case interface(NetworkInterface)
  }

  /// What hosts ask for.
  public var name: String
  public var uplink: Uplink
  /// nil: 1500, or that of the interface.
  public var mtu: Int?
  /// Frames to groups, as broadcasts are, that a host may send in a second; as many may come at once.
  public var groupFrameRate = 5_000
  /// Addresses that a host may send from: its own, and those that it is seen to send from first.
  public var addressCount = 1

  /// How long a host may take nothing of what waits for it before that is dropped; in steps of 100 ms. (NI-35)
  public var patience: Duration = .milliseconds(200)

  public init(name: String, uplink: Uplink) {
    self.name = name
    self.uplink = uplink
  }
}
