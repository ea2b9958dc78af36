public import FabricVerbs

/// Keys for one transfer at a time.
extension Channel {
  /// A key with which this channel's peer, and nobody else, may write to the bytes of an element;
  /// `takeBack` ends it. For what the peer is to `push`.
  public func lend(_ element: ScatterGatherElement) throws(RegistrationError) -> RemoteKey {
    try domain.lend(element, for: .remoteWrite, to: queuePair.number)
  }

  /// Ends a loan: after the return the peer changes no byte with the key.
  public func takeBack(_ key: RemoteKey) { domain.revoke(key) }
}
