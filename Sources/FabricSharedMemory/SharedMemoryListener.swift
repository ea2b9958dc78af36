import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// Listens at a socket's path; the path goes when the listener does, if it is still its own, and one
/// left by a process that was killed is taken over.
final class SharedMemoryListener: Listener {
  let address: FabricAddress
  private let socket: ListeningSocket

  init(
    at address: FabricAddress, options: SharedMemoryOptions, events: EventChannel
  ) throws(ConnectError) {
    self.address = address
    socket = try ListeningSocket(at: address, options: options, events: events)
  }

  func close() { socket.close() }

  // The event channel holds the socket, not the listener: who drops the listener stops listening.
  deinit { close() }
}

/// A listener's socket, looked after by its event channel.
private final class ListeningSocket: EventSource, @unchecked Sendable {
  private let address: FabricAddress
  private let options: SharedMemoryOptions
  private let socket: SequencedSocket
  private let name: SocketPath
  private let events: EventChannel
  private let tag = Atomic<UInt64>(0)
  private let isClosed = Atomic<Bool>(false)
  private let door = Door()
  /// After the process had no descriptor left for a peer: nobody wakes up for those who wait.
  private let pause = Mutex(ListeningPause())

  init(
    at address: FabricAddress, options: SharedMemoryOptions, events: EventChannel
  ) throws(ConnectError) {
    self.address = address
    self.options = options
    self.events = events
    let path = address.endpoint
    do throws(Errno) {
      // (SM-47)
      (socket, name) = try SocketPath.claim(path) { path throws(Errno) in
        try SequencedSocket.listen(at: path)
      } connect: { path throws(Errno) in
        _ = try SequencedSocket.connect(to: path)
      }
    } catch {
      guard let reason = SocketPath.reason(error, at: path) else {
        throw .system(error, doing: "listening at \(path)")
      }
      throw error == .addressInUse ? .addressInUse(reason) : .invalidAddress(reason)
    }
    do {
      tag.store(try events.add(self, descriptor: socket.descriptor.rawValue), ordering: .relaxed)
    } catch {
      name.remove()
      throw .system(error, doing: "listening at \(path)")
    }
  }

  func ready() {
    // A flood of peers does not keep this thread: the rest is there at the next look.
    for _ in 0..<64 {
      let accepted: SequencedSocket?
      do {
        accepted = try socket.accept()
      } catch {
        return rest(because: error)
      }
      guard let accepted else { return }
      guard let peer = try? accepted.peerCredentials() else { continue }
      guard options.allows(peer) else {
        Self.refuse(peer, over: accepted)
        continue
      }
      SharedMemoryConnectionRequest.wait(on: accepted, peer: peer, at: door, events: events)
    }
  }

  private func rest(because error: Errno) {
    events.unwatch(descriptor: socket.descriptor.rawValue)
    if let words = pause.withLock({ $0.begin(at: .now, because: error) }) { options.log(words) }
  }

  private static func refuse(_ peer: SequencedSocket.PeerCredentials, over socket: SequencedSocket)
  {
    let words =
      "expected a process of user \(CallingUser.id) or of root, this one is of user "
      + "\(peer.userID): run both as one user"
    try? socket.send(ControlMessage.reject(Array(words.utf8)).bytes)
  }

  func expire(at now: MonotonicTime) {
    guard pause.withLock({ $0.isOver(at: now) }), !isClosed.load(ordering: .acquiring) else {
      return
    }
    do throws(Errno) {
      try events.watch(tag: tag.load(ordering: .relaxed), descriptor: socket.descriptor.rawValue)
    } catch {
      rest(because: error)
    }
  }

  func close() {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    events.remove(tag: tag.load(ordering: .relaxed), descriptor: socket.descriptor.rawValue)
    name.remove()
    SequencedSocket.shutDown(socket.descriptor.rawValue)
  }
}
