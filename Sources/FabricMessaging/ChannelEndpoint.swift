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
  let timer = ChannelTimer()
  private let scratch = ChannelScratch()
  /// Channels by their queue pair's number, until they are finished.
  private var channels: [UInt32: Channel] = [:]
  /// Queue pairs of peers that have connected and not yet opened their channel, oldest first.
  private var openings: [UInt32] = []
  /// A peer that only connects costs a channel's memory: so many may at once. The oldest makes room
  /// for the next, so that nobody can hold all places against those who do open their channel.
  static let openingLimit = 256
  /// Channels since freed memory was given back.
  private var endedCount = 0
  /// Where the requests of each listener come. They stay when it goes, for the sake of peers that
  /// are at the door: these get a word.
  private var requestChannels: [any ConnectionEventChannel] = []
  private var listeners: [ObjectIdentifier: ChannelListener] = [:]

  private static let nobodyListens = PassingRejection.privateData("nobody listens here any more")

  /// Requests that all channels of an endpoint may have outstanding together, where the adapter has
  /// as long a queue.
  public static let completionQueueCapacity = 1 << 20

  public init(adapter: any Adapter, service: CompletionService) throws(ChannelOpenError) {
    self.adapter = adapter
    self.service = service
    do {
      protectionDomain = try adapter.makeProtectionDomain()
      completionQueue = try adapter.makeCompletionQueue(
        capacity: min(
          Self.completionQueueCapacity, adapter.capabilities.maximumCompletionCount))
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
    for listener in listeners.values { listener.close() }
    for channel in timer.all {
      channel.close()
      channel.finish(.local)
    }
    service.execute { [self] in
      service.remove(completionQueue)
      // Nobody polls it after this: what it holds of queue pairs that are destroyed goes now.
      var last = [WorkCompletion](repeating: WorkCompletion(), count: 1)
      var space = last.mutableSpan
      _ = completionQueue.poll(into: &space)
      service.remove(events)
      for requests in requestChannels { service.remove(requests) }
      service.remove(timer)
    }
  }

  // MARK: Listening

  /// Takes channels from peers. Each is first put to `accept` with the peer's greeting, then, once
  /// open, to `opened`. Where keys are asked for (`ChannelOptions.keys`), only who has proven one
  /// is; who has not is told to `refused`, with words for a log.
  public func listen(
    at address: FabricAddress, options: ChannelOptions = ChannelOptions(),
    accept: @escaping (_ greeting: [UInt8], _ peer: ChannelPeer) -> AcceptDecision,
    opened: @escaping (Channel) -> Void = { _ in },
    refused: @escaping (_ peer: ChannelPeer, _ reason: String) -> Void = { _, _ in }
  ) throws(ChannelOpenError) -> ChannelListener {
    try options.validate()
    // A request does not say which listener it came to, but its event channel does.
    let requests: any ConnectionEventChannel
    do {
      requests = try adapter.makeEventChannel()
    } catch {
      throw .resources(error.description)
    }
    let fabricListener: any Listener
    do {
      fabricListener = try adapter.listen(at: address, events: requests)
    } catch {
      throw .connect(error)
    }
    let listener = ChannelListener(
      fabricListener, options: options, accept: accept, opened: opened, refused: refused)
    listeners[ObjectIdentifier(listener)] = listener
    listener.endpoint = self
    requestChannels.append(requests)
    service.add(requests) { [weak self, weak listener] event in
      guard case .connectRequest(let request) = event else { return }
      guard let self, let listener else {
        return request.reject(privateData: Self.nobodyListens)
      }
      take(request, for: listener)
      // That it is established is to be known before what the peer then says is polled.
      while let event = events.poll() { handle(event) }
    }
    return listener
  }

  func forget(_ listener: ChannelListener) { listeners[ObjectIdentifier(listener)] = nil }

  private func take(_ request: any ConnectionRequest, for listener: ChannelListener) {
    if openings.count == Self.openingLimit {
      channels[openings.removeFirst()]?.finish(
        .failure("it opened no channel while \(Self.openingLimit) other peers connected"))
    }
    do {
      let channel = try makeChannel(
        listener.options, peer: request.peerDescription,
        role: .acceptor(
          decide: listener.accept,
          opened: { [weak self] channel in
            self?.endOpening(of: channel.queuePair.number)
            listener.opened(channel)
          }, refused: listener.refused), handler: nil)
      let number = channel.queuePair.number
      do {
        try request.accept(channel.queuePair, privateData: [], events: events)
        openings.append(number)
      } catch {
        channel.finish(.failure(error.description))
        channels[number] = nil
      }
    } catch {
      request.reject(privateData: PassingRejection.privateData(error.description))
    }
  }

  private func endOpening(of number: UInt32) { openings.removeAll { $0 == number } }

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
    if case .initiator = role {
      do {
        try memory.makeBuffers(options, for: queuePair)
      } catch {
        queuePair.destroy()
        memory.release()
        throw .resources(error.description)
      }
    }
    let channel = Channel(
      service: service, queuePair: queuePair, memory: memory, scratch: scratch,
      options: options, capabilities: adapter.capabilities, peer: ChannelPeer(place: peer),
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
    case .connectRequest(let request):
      request.reject(privateData: Self.nobodyListens)
    case .established(let queuePair, _): channels[queuePair.number]?.connected()
    case .failed(let queuePair, let error):
      guard let channel = channels.removeValue(forKey: queuePair.number) else { return }
      channel.openFailure = ChannelOpenError(connecting: error)
      channel.finish(.failure(error.description))
    case .disconnected(let queuePair, let reason):
      endOpening(of: queuePair.number)
      guard let channel = channels.removeValue(forKey: queuePair.number) else { return }
      // What the peer sent before it left lies in the queue: it is handed over first.
      service.execute { channel.finish(channel.closeReason(reason)) }
      giveBackMemory()
    }
  }

  /// A flood leaves megabytes behind that the allocator keeps. After so many channels, once nobody
  /// is about to open one, they go back to the system: behind the jobs in which the last channel
  /// lets go of what it had.
  private func giveBackMemory() {
    endedCount += 1
    guard endedCount >= Self.openingLimit, openings.isEmpty else { return }
    endedCount = 0
    service.execute { [service] in service.execute { FreedMemory.giveBack() } }
  }
}

/// Takes channels from peers until it is closed. Threads: as its endpoint.
public final class ChannelListener: @unchecked Sendable {
  let options: ChannelOptions
  let accept: ([UInt8], ChannelPeer) -> AcceptDecision
  let opened: (Channel) -> Void
  let refused: (ChannelPeer, String) -> Void
  private(set) var fabricListener: (any Listener)?
  weak var endpoint: ChannelEndpoint?

  init(
    _ fabricListener: any Listener, options: ChannelOptions,
    accept: @escaping ([UInt8], ChannelPeer) -> AcceptDecision,
    opened: @escaping (Channel) -> Void, refused: @escaping (ChannelPeer, String) -> Void
  ) {
    self.fabricListener = fabricListener
    self.options = options
    self.accept = accept
    self.opened = opened
    self.refused = refused
  }

  /// Where it listens; nil once it is closed.
  public var address: FabricAddress? { fabricListener?.address }
  /// All places where it listens: a name may stand for several addresses. None once it is closed.
  public var addresses: [FabricAddress] { fabricListener?.addresses ?? [] }

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
