public import FabricVerbs

/// An adapter that hands everything on to another: a test says what is different.
public protocol ForwardingAdapter: Adapter {
  var base: any Adapter { get }
}

extension ForwardingAdapter {
  public var fabric: String { base.fabric }
  public var capabilities: AdapterCapabilities { base.capabilities }

  public func makeProtectionDomain() throws(ResourceError) -> any ProtectionDomain {
    try base.makeProtectionDomain()
  }

  public func makeCompletionQueue(
    capacity: Int
  ) throws(ResourceError) -> any CompletionQueue {
    try base.makeCompletionQueue(capacity: capacity)
  }

  public func makeSharedReceiveQueue(
    in protectionDomain: any ProtectionDomain, capacity: Int
  ) throws(ResourceError) -> any SharedReceiveQueue {
    try base.makeSharedReceiveQueue(in: protectionDomain, capacity: capacity)
  }

  public func makeQueuePair(
    _ attributes: QueuePairAttributes
  ) throws(ResourceError) -> any QueuePair {
    try base.makeQueuePair(attributes)
  }

  public func makeEventChannel() throws(ResourceError) -> any ConnectionEventChannel {
    try base.makeEventChannel()
  }

  public func listen(
    at address: FabricAddress, events: any ConnectionEventChannel
  ) throws(ConnectError) -> any Listener {
    try base.listen(at: address, events: events)
  }

  public func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    try base.connect(
      queuePair, to: address, privateData: privateData, timeout: timeout, events: events)
  }
}
