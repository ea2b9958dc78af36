/// A news item about connections. The corresponding C type is `rdma_cm_event`.
public enum ConnectionEvent: Sendable {
  /// A peer asks a listener; accept or reject it.
  case connectRequest(any ConnectionRequest)
  /// The queue pair is ready to send; with the peer's private data.
  case established(any QueuePair, privateData: [UInt8])
  /// `connect` failed; the queue pair is in the error state.
  case failed(any QueuePair, ConnectError)
  /// An established connection has ended; the queue pair is in the error state.
  case disconnected(any QueuePair, DisconnectReason)
}

/// Why an established connection ended.
public enum DisconnectReason: Sendable, Equatable {
  /// This side called `disconnect`.
  case local
  /// The peer called `disconnect`.
  case peer
  /// The peer's process ended or its host is out of reach.
  case peerDied
  /// A work request failed, or the peer broke the protocol: the words say how.
  case failure(String)
}

/// A peer that waits for an answer. Dropping it unanswered rejects it.
public protocol ConnectionRequest: AnyObject, Sendable {
  var privateData: [UInt8] { get }
  /// Who asks, in words for a log.
  var peerDescription: String { get }

  /// Connects a queue pair in the state `initialized`; `established` follows on `events`.
  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError)

  /// Refuses, with private data for the peer.
  func reject(privateData: [UInt8])
}

/// Delivers the events of listeners and connections. The corresponding C type is
/// `rdma_event_channel`.
///
/// Threads: one thread polls at a time.
public protocol ConnectionEventChannel: AnyObject, Sendable {
  /// Carries on whatever is under way and takes the next event; nil when there is none. Must be
  /// called now and then (every 100 ms, say) also when `descriptor` is not readable, for
  /// time-outs.
  func poll() -> ConnectionEvent?

  /// Readable when `poll` has something to do; nil in simulation.
  var descriptor: CInt? { get }
}

/// A place where peers connect to. Listening ends with `close` or with the object.
public protocol Listener: AnyObject, Sendable {
  var address: FabricAddress { get }
  /// Every place: a name may stand for several. The first is `address`.
  var addresses: [FabricAddress] { get }
  func close()
}

extension Listener {
  public var addresses: [FabricAddress] { [address] }
}
