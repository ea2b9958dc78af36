public import FabricCompletion
import FabricPlatform
public import FabricVerbs

/// Where channels of one shard are made: an adapter's protection domain and completion queue, and
/// the completion service that runs them.
///
/// Threads: everything on the service's thread (before it runs, on the thread that makes it).
public final class ChannelEndpoint: @unchecked Sendable {
  public let adapter: any Adapter
  public let service: CompletionService
  public let protectionDomain: any ProtectionDomain
  public let completionQueue: any CompletionQueue
  private let events: any ConnectionEventChannel
  private let timer = ChannelTimer()
  /// Channels by their queue pair's number, until they are finished.
  private var channels: [UInt32: Channel] = [:]
  /// Queue pairs of peers that have connected and not yet opened their channel.
  private var openings: Set<UInt32> = []
  /// A peer that only connects costs a channel's memory: so many may at once.
  static let openingLimit = 256
  private var listeners: [ObjectIdentifier: ChannelListener] = [:]

  /// Requests that all channels of an endpoint may have outstanding together.
  public static let completionQueueCapacity = 1 << 20

  public init(adapter: any Adapter, service: CompletionService) throws(ChannelOpenError) {
    self.adapter = adapter
    self.service = service
    do {
      protectionDomain = try adapter.makeProtectionDomain()
      completionQueue = try adapter.makeCompletionQueue(capacity: Self.completionQueueCapacity)
      events = try adapter.makeEventChannel()
    } catch {
      throw .resources(error.description)
    }
    service.add(completionQueue)
    service.add(timer)
    service.add(events) { [weak self] event in self?.handle(event) }
  }

  /// Channels that are open or opening.
  public var channelCount: Int { timer.channelCount }

  /// Closes every channel and listener, then leaves the service.
  public func close() {
    for listener in listeners.values { listener.fabricListener?.close() }
    listeners = [:]
    for channel in timer.all {
      channel.close()
      channel.finish(.local)
    }
    service.execute { [self] in
      service.remove(completionQueue)
      service.remove(events)
      service.remove(timer)
    }
  }

  // MARK: Listening

  /// Takes channels from peers. Each is first put to `accept` with the peer's greeting, then, once
  /// open, to `opened`.
  public func listen(
    at address: FabricAddress, options: ChannelOptions = ChannelOptions(),
    accept: @escaping (_ greeting: [UInt8], _ peer: String) -> AcceptDecision,
    opened: @escaping (Channel) -> Void = { _ in }
  ) throws(ChannelOpenError) -> ChannelListener {
    try options.validate()
    let fabricListener: any Listener
    do {
      fabricListener = try adapter.listen(at: address, events: events)
    } catch {
      throw .connect(error)
    }
    let listener = ChannelListener(
      fabricListener, options: options, accept: accept, opened: opened)
    listeners[ObjectIdentifier(listener)] = listener
    listener.endpoint = self
    return listener
  }

  func forget(_ listener: ChannelListener) { listeners[ObjectIdentifier(listener)] = nil }

  private func take(_ request: any ConnectionRequest) {
    // A fabric listener's requests do not say which listener they came to; one per endpoint and
    // address suffices, and the only one there is takes them.
    guard let listener = listeners.values.first else {
      return request.reject(privateData: Array("nobody listens here any more".utf8))
    }
    guard openings.count < Self.openingLimit else {
      let words = "\(Self.openingLimit) channels are being opened here: try again later"
      return request.reject(privateData: Array(words.utf8))
    }
    do {
      let channel = try makeChannel(
        listener.options, peer: request.peerDescription,
        role: .acceptor(
          decide: listener.accept,
          opened: { [weak self] channel in
            self?.openings.remove(channel.queuePair.number)
            listener.opened(channel)
          }), handler: nil)
      let number = channel.queuePair.number
      do {
        try request.accept(channel.queuePair, privateData: [], events: events)
        openings.insert(number)
      } catch {
        channel.finish(.failure(error.description))
        channels[number] = nil
      }
    } catch {
      request.reject(privateData: Array(error.description.utf8.prefix(256)))
    }
  }

  // MARK: Connecting

  /// Opens a channel to a listener; `completed` is called once, and `handler` from then on.
  public func connect(
    to address: FabricAddress, options: ChannelOptions = ChannelOptions(),
    timeout: Duration = .seconds(5), handler: any ChannelHandler,
    completed: @escaping (Result<Channel, ChannelOpenError>) -> Void
  ) {
    do {
      try options.validate()
      let channel = try makeChannel(
        options, peer: address.description, role: .initiator(completed), handler: handler)
      do {
        try adapter.connect(
          channel.queuePair, to: address, privateData: [], timeout: timeout, events: events)
      } catch {
        channel.openFailure = .connect(error)
        channels[channel.queuePair.number] = nil
        channel.finish(.failure(error.description))
      }
    } catch {
      completed(.failure(error))
    }
  }

  private func makeChannel(
    _ options: ChannelOptions, peer: String, role: Channel.Role, handler: (any ChannelHandler)?
  ) throws(ChannelOpenError) -> Channel {
    let memory: ChannelMemory
    do {
      memory = try ChannelMemory(options, in: protectionDomain)
    } catch {
      throw .resources(error.description)
    }
    let queuePair: any QueuePair
    do {
      queuePair = try adapter.makeQueuePair(
        QueuePairAttributes(
          protectionDomain: protectionDomain, sendCompletionQueue: completionQueue,
          receiveCompletionQueue: completionQueue, sendCapacity: options.sendCount,
          receiveCapacity: options.receiveCount))
    } catch {
      memory.release()
      throw .resources(error.description)
    }
    let channel = Channel(
      service: service, queuePair: queuePair, memory: memory, options: options,
      capabilities: adapter.capabilities, peerDescription: peer,
      role: role, handler: handler)
    do {
      try channel.postAllReceives()
    } catch {
      queuePair.destroy()
      memory.release()
      throw .resources(error.description)
    }
    timer.add(channel)
    channels[queuePair.number] = channel
    service.monitor(queuePair, on: completionQueue, handler: channel)
    return channel
  }

  // MARK: Events

  private func handle(_ event: ConnectionEvent) {
    switch event {
    case .connectRequest(let request): take(request)
    case .established(let queuePair, _): channels[queuePair.number]?.connected()
    case .failed(let queuePair, let error):
      guard let channel = channels.removeValue(forKey: queuePair.number) else { return }
      channel.openFailure = .connect(error)
      channel.finish(.failure(error.description))
    case .disconnected(let queuePair, let reason):
      openings.remove(queuePair.number)
      guard let channel = channels.removeValue(forKey: queuePair.number) else { return }
      // What the peer sent before it left lies in the queue: it is handed over first.
      service.execute { channel.finish(channel.closeReason(reason)) }
    }
  }
}

/// Takes channels from peers until it is closed. Threads: as its endpoint.
public final class ChannelListener: @unchecked Sendable {
  let options: ChannelOptions
  let accept: ([UInt8], String) -> AcceptDecision
  let opened: (Channel) -> Void
  private(set) var fabricListener: (any Listener)?
  weak var endpoint: ChannelEndpoint?

  init(
    _ fabricListener: any Listener, options: ChannelOptions,
    accept: @escaping ([UInt8], String) -> AcceptDecision, opened: @escaping (Channel) -> Void
  ) {
    self.fabricListener = fabricListener
    self.options = options
    self.accept = accept
    self.opened = opened
  }

  /// Where it listens.
  public var address: FabricAddress? { fabricListener?.address }

  /// Stops listening; channels that are open stay so.
  public func close() {
    fabricListener?.close()
    fabricListener = nil
    endpoint?.forget(self)
  }
}

extension Channel {
  /// What a broken connection means for a channel.
  func closeReason(_ reason: DisconnectReason) -> ChannelCloseReason {
    if phase == .closing { return .local }
    return switch reason {
    case .local: .local
    case .peer: .peer
    case .peerDied: .peerDied("the peer's process ended")
    case .failure(let words): .failure(words)
    }
  }
}
