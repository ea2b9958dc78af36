public import FabricVerbs

/// A program that is a host, and connects to where it is told to.
public protocol HostProgram: AnyObject {
  /// Its exit status, once it has ended.
  var status: Int32? { get }
  /// Ends it, and waits until it has.
  func end()
}

/// The hosts under judgement: those that come to an address, of themselves or because a program is started.
public struct HostTarget {
  public var adapter: any Adapter
  /// Where to listen.
  public var address: FabricAddress
  /// How long a host may take to come.
  public var patience: Duration
  /// Starts a host that uses the volume at an address; nil where hosts come of themselves.
  public var start: ((_ unit: FabricAddress, _ volume: String) throws -> any HostProgram)?

  public init(
    adapter: any Adapter, address: FabricAddress, patience: Duration,
    start: ((_ unit: FabricAddress, _ volume: String) throws -> any HostProgram)? = nil
  ) {
    self.adapter = adapter
    self.address = address
    self.patience = patience
    self.start = start
  }

  /// The volume that is served.
  public static let volume = "conformance"
}
