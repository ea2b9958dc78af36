import FabricVerbs

/// Holds events until they are polled.
final class SimulatedEventChannel: ConnectionEventChannel, @unchecked Sendable {
  private var events: [ConnectionEvent] = []
  var descriptor: CInt? { nil }

  func push(_ event: ConnectionEvent) { events.append(event) }
  func poll() -> ConnectionEvent? { events.isEmpty ? nil : events.removeFirst() }
  /// Its process died: nobody will answer what waits here.
  func abandon() { events = [] }
}

/// The network's part of a listener.
final class SimulatedListener {
  let adapter: SimulatedAdapter
  let address: FabricAddress
  let channel: SimulatedEventChannel

  init(adapter: SimulatedAdapter, address: FabricAddress, channel: SimulatedEventChannel) {
    self.adapter = adapter
    self.address = address
    self.channel = channel
  }
}

/// The user's part; listening ends with it.
final class SimulatedListenerHandle: Listener, @unchecked Sendable {
  private let listener: SimulatedListener
  var address: FabricAddress { listener.address }

  init(_ listener: SimulatedListener) { self.listener = listener }
  deinit { close() }

  func close() {
    let network = listener.adapter.network
    if network.listeners[address.endpoint] === listener {
      network.listeners[address.endpoint] = nil
    }
  }
}

/// A connection that is being made: from `connect` to the answer.
final class PendingConnection {
  let client: SimulatedQueuePair
  let address: FabricAddress
  let privateData: [UInt8]
  let network: SimulatedNetwork
  /// False once the client knows the outcome, or gave up.
  private(set) var isOpen = true

  init(
    client: SimulatedQueuePair, address: FabricAddress, privateData: [UInt8],
    network: SimulatedNetwork
  ) {
    self.client = client
    self.address = address
    self.privateData = privateData
    self.network = network
  }

  /// The request reaches the place where the listener may be.
  func arrive() {
    guard isOpen else { return }
    guard let listener = network.listeners[address.endpoint] else {
      return fail(.unreachable("nobody listens at \(address)"))
    }
    listener.channel.push(
      .connectRequest(SimulatedConnectionRequest(self, server: listener.adapter)))
  }

  func fail(_ error: ConnectError) {
    guard isOpen else { return }
    isOpen = false
    client.connectFailed(error)
  }

  /// Ties the two together; both learn it after a while.
  func accept(by server: SimulatedQueuePair, privateData answer: [UInt8]) {
    isOpen = false
    client.peer = server
    server.peer = client
    network.schedule(after: network.randomDelay()) { [client, network, privateData] in
      func tell(_ server: SimulatedQueuePair, of client: SimulatedQueuePair) {
        if server.peer === client { server.established(privateData: privateData) }
      }
      // Each side may have ended meanwhile.
      if client.peer === server { client.established(privateData: answer) }
      guard network.options.acceptorDelay > .zero else {
        return tell(server, of: client)
      }
      network.schedule(after: network.options.acceptorDelay) { tell(server, of: client) }
    }
  }
}

final class SimulatedConnectionRequest: ConnectionRequest, @unchecked Sendable {
  private let connection: PendingConnection
  private let server: SimulatedAdapter
  private var isAnswered = false

  init(_ connection: PendingConnection, server: SimulatedAdapter) {
    self.connection = connection
    self.server = server
  }

  deinit { if !isAnswered { answer(.rejected([])) } }

  var privateData: [UInt8] { connection.privateData }
  var peerDescription: String { "adapter \(connection.client.adapter.name)" }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard privateData.count <= server.capabilities.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    guard !isAnswered, let own = queuePair as? SimulatedQueuePair, own.adapter === server,
      own.state == .initialized
    else { throw .invalidState }
    guard let channel = events as? SimulatedEventChannel else {
      throw .invalidAddress("the event channel belongs to another fabric")
    }
    isAnswered = true
    own.startConnecting(on: channel)
    guard connection.isOpen, connection.client.state == .readyToReceive else {
      return own.connectFailed(.timedOut("the peer gave up before the answer"))
    }
    connection.accept(by: own, privateData: privateData)
  }

  func reject(privateData: [UInt8]) {
    if isAnswered { return }
    isAnswered = true
    answer(.rejected(Array(privateData.prefix(server.capabilities.maximumPrivateDataByteCount))))
  }

  private func answer(_ error: ConnectError) {
    let error = server.isAlive ? error : .unreachable("the listener at \(connection.address) died")
    let network = connection.network
    network.schedule(after: network.randomDelay()) { [connection] in connection.fail(error) }
  }
}
