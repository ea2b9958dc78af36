public import FabricPlatform

extension ServedStream {
  /// The address of this machine that the peer came to, where the listener's is all of them; nil for
  /// Unix sockets.
  public var ownAddress: InternetAddress? {
    if case .local = localAddress { nil } else { socket.ownAddress }
  }
}
