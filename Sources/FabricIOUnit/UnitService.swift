public import FabricMessaging
public import FabricVerbs

/// Something else than volumes that hosts come for, at the addresses of a unit. Its openings begin with a mark of
/// their own.
///
/// Threads: all calls on the unit's thread.
public protocol UnitService: AnyObject, Sendable {
  /// The unit is about to listen.
  ///
  /// - Throws: why the service cannot be; nothing is left of it then.
  func start(on fabric: UnitFabric) throws(RegistrationError)

  /// Judges an opening; nil: it is not one of this service's.
  ///
  /// - Parameter fabric: the number of the one that it came by, for `UnitMemory.localKey`.
  func accept(greeting: [UInt8], peer: ChannelPeer, fabric: Int) -> AcceptDecision?

  /// A channel is up that was accepted.
  ///
  /// - Returns: whether it is one of this service's.
  func opened(_ channel: Channel) -> Bool

  /// Closes every connection and gives up what it has. Nothing is called any more after it.
  func stop()
}
