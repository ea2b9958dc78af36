public import FabricMessaging
public import FabricVerbs

/// A program that is a host, and connects to where it is told to.
public protocol HostProgram: AnyObject {
  /// Its exit status, once it has ended.
  var status: Int32? { get }
  /// Ends it, and waits until it has.
  func end()
}

/// The hosts under judgement: those that come to the judge's addresses, of themselves or because a program is started.
public struct HostTarget {
  public var adapter: any Adapter
  /// Where to listen: one address, or several for hosts with several paths.
  public var addresses: [FabricAddress]
  /// How long a host may take to come.
  public var patience: Duration
  /// The key that hosts have, too; nil where they prove none.
  public var key: (any ChannelKey)?
  /// Starts a host that uses the volume at these addresses; nil where hosts come of themselves.
  public var start: ((_ units: [FabricAddress], _ volume: String) throws -> any HostProgram)?

  public init(
    adapter: any Adapter, addresses: [FabricAddress], patience: Duration,
    key: (any ChannelKey)? = nil,
    start: ((_ units: [FabricAddress], _ volume: String) throws -> any HostProgram)? = nil
  ) {
    self.adapter = adapter
    self.addresses = addresses
    self.patience = patience
    self.key = key
    self.start = start
  }

  /// The volume that is served.
  public static let volume = "conformance"
}
