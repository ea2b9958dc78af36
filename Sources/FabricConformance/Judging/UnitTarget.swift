public import FabricMessaging
public import FabricVerbs

/// The unit under judgement, and what a judge may do there.
public struct UnitTarget: Sendable {
  public var address: FabricAddress
  public var adapter: any Adapter
  public var volume: String
  /// What the judge calls itself where no key does.
  public var host = "fabconform"
  /// The key that both have; nil where the unit wants none.
  public var key: (any ChannelKey)?
  /// Whether cases may write to the volume.
  public var mayWrite: Bool

  public init(
    address: FabricAddress, adapter: any Adapter, volume: String, key: (any ChannelKey)? = nil,
    mayWrite: Bool
  ) {
    self.address = address
    self.adapter = adapter
    self.volume = volume
    self.key = key
    self.mayWrite = mayWrite
  }
}
