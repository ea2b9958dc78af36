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
  /// Which file the socket is: as long as it is open, no other has this identity.
  private let identity: FileIdentity?
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
    do {
      (socket, identity) = try Self.listen(at: path)
    } catch .fileNameTooLong {
      throw .invalidAddress(
        "expected a socket path of 1 to \(SequencedSocket.maximumPathByteCount) bytes, "
          + "got \(path.utf8.count): choose a shorter one")
    } catch .addressInUse where !FileKind.isSocket(path) {
      throw .addressInUse(
        "expected a free path, but a file that is no socket is at \(path): choose another path")
    } catch .addressInUse {
      throw .addressInUse(
        "expected a free path, but something is at \(path) already: "
          + "stop the process that listens there or choose another path")
    } catch .noSuchFileOrDirectory {
      throw .invalidAddress(
        "expected a directory to make the socket \(path) in, found none: make it or choose "
          + "another path")
    } catch  where [.permissionDenied, .notPermitted, .readOnlyFileSystem].contains(error) {
      throw .invalidAddress(
        "expected a directory that user \(CallingUser.id) may make the socket \(path) in, "
          + "got \"\(error)\": choose another path")
    } catch {
      throw .system(error, doing: "listening at \(path)")
    }
    do {
      tag.store(try events.add(self, descriptor: socket.descriptor.rawValue), ordering: .relaxed)
    } catch {
      removePath()
      throw .system(error, doing: "listening at \(path)")
    }
  }

  /// Listens under the directory's lock, so that nobody takes a socket that is about to be listened
  /// at, or has just been taken over, for one that was left behind. Who cannot have the lock takes
  /// nothing over. (SM-47)
  private static func listen(
    at path: String
  ) throws(Errno) -> (SequencedSocket, FileIdentity?) {
    let lock: DirectoryLock?
    do throws(Errno) {
      lock = try DirectoryLock(around: path, patience: .seconds(2))
    } catch {
      lock = nil
    }
    do {
      return (try SequencedSocket.listen(at: path), FileIdentity(at: path))
    } catch .addressInUse where lock != nil {
      // A socket that refuses connections was left behind by a process that is gone.
      do {
        _ = try SequencedSocket.connect(to: path)
      } catch .connectionRefused {
        guard FileKind.isSocket(path) else { throw .addressInUse }
        FileKind.remove(path)
        return (try SequencedSocket.listen(at: path), FileIdentity(at: path))
      } catch {}
      throw .addressInUse
    }
  }

  /// Removes the socket, unless something else is at its path by now.
  private func removePath() {
    let path = address.endpoint
    // Without the lock somebody could still come in between, but the name should not stay for that.
    let lock = try? DirectoryLock(around: path, patience: .milliseconds(100))
    if let identity, identity == FileIdentity(at: path) { FileKind.remove(path) }
    _ = consume lock
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
    removePath()
    SequencedSocket.shutDown(socket.descriptor.rawValue)
  }
}
