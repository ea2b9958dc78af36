import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Synchronization

/// Listens at all addresses that a name stands for; port 0 chooses one for them, which `addresses`
/// then tells.
final class TCPListener: Listener {
  let addresses: [FabricAddress]
  private let streams: [ListeningStream]
  private let limits: AddressLimits

  var address: FabricAddress { addresses[0] }
  /// Peers that were hung up on at once because their address had as many connections as it may.
  var turnedAwayCount: Int { limits.turnedAwayCount }

  /// - Parameter places: what `address` stands for, at least one.
  init(
    at address: FabricAddress, _ places: [InternetAddress], options: TCPOptions,
    events: EventChannel
  ) throws(ConnectError) {
    let sockets = try ListeningSockets.open(at: places, of: address)
    let limits = AddressLimits(options)
    let door = Door(options)
    var streams: [ListeningStream] = []
    do {
      for socket in sockets {
        streams.append(
          try ListeningStream(socket, options: options, limits: limits, door: door, events: events))
      }
    } catch {
      for stream in streams { stream.close() }
      throw .system(error, doing: "listening at \(address.endpoint)")
    }
    self.limits = limits
    self.streams = streams
    addresses = sockets.map {
      FabricAddress(
        fabric: address.fabric, endpoint: $0.ownAddress?.description ?? address.endpoint)
    }
  }

  func close() { for stream in streams { stream.close() } }

  // The event channel holds the sockets, not the listener: who drops the listener stops listening.
  deinit { close() }
}

/// A listener's socket, looked after by its event channel.
private final class ListeningStream: EventSource, @unchecked Sendable {
  private let options: TCPOptions
  private let events: EventChannel
  private let limits: AddressLimits
  private let door: Door
  private let tag = Atomic<UInt64>(0)

  private struct State {
    var socket: StreamSocket?
    /// After the process had no descriptor left for a peer.
    var pause = ListeningPause()
  }
  private let state: Mutex<State>

  init(
    _ socket: StreamSocket, options: TCPOptions, limits: AddressLimits, door: Door,
    events: EventChannel
  ) throws(Errno) {
    self.options = options
    self.events = events
    self.limits = limits
    self.door = door
    state = Mutex(State(socket: socket))
    tag.store(try events.add(self, descriptor: socket.number), ordering: .relaxed)
  }

  func ready() {
    // A flood of peers does not keep this thread: the rest is there at the next look.
    for _ in 0..<64 {
      let accepted: (StreamSocket, InternetAddress)?
      do {
        accepted = try state.withLock { state throws(Errno) in try state.socket?.accept() }
      } catch {
        return pause(because: error)
      }
      guard let (socket, peer) = accepted else { return }
      // Who has too many is reset: an end in order would look like a responder that does not know
      // revision 2 of MPA, and be answered by another attempt. (IW-37)
      guard let ticket = enter(peer) else {
        limits.turnAway()
        socket.reset()
        continue
      }
      socket.prepare(silence: options.silence)
      IncomingConnection.wait(
        on: socket, from: peer, ticket: ticket, at: door, options: options, events: events)
    }
  }

  /// Lets a peer in, if need be in the place of one of its address that says nothing.
  private func enter(_ peer: InternetAddress) -> AddressTicket? {
    if let ticket = limits.enter(peer) { return ticket }
    guard let idle = door.takeOldest(of: peer) else { return nil }
    idle.turnAway()
    return limits.enter(peer)
  }

  private func pause(because error: Errno) {
    let words = state.withLock { state in
      if let socket = state.socket { events.unwatch(descriptor: socket.number) }
      return state.pause.begin(at: .now, because: error)
    }
    if let words { options.log(words) }
  }

  func expire(at now: MonotonicTime) {
    let failure: Errno? = state.withLock { state in
      guard let socket = state.socket, state.pause.isOver(at: now) else { return nil }
      do throws(Errno) {
        try events.watch(tag: tag.load(ordering: .relaxed), descriptor: socket.number)
        return nil
      } catch {
        return error
      }
    }
    if let failure { pause(because: failure) }
  }

  func close() {
    state.withLock { state in
      guard let socket = state.socket.take() else { return }
      events.remove(tag: tag.load(ordering: .relaxed), descriptor: socket.number)
    }
  }
}
