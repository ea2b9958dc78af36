import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// Listens at a socket's path; the path goes when the listener does, and one left by a process
/// that was killed is taken over.
final class SharedMemoryListener: Listener {
  let address: FabricAddress
  private let socket: ListeningSocket

  init(
    at address: FabricAddress, options: SharedMemoryOptions, events: SharedMemoryEventChannel
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
  private let events: SharedMemoryEventChannel
  private let tag = Atomic<UInt64>(0)
  private let isClosed = Atomic<Bool>(false)

  init(
    at address: FabricAddress, options: SharedMemoryOptions, events: SharedMemoryEventChannel
  ) throws(ConnectError) {
    self.address = address
    self.options = options
    self.events = events
    let path = address.endpoint
    do {
      socket = try Self.listen(at: path)
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
      throw .system(error, doing: "listening at \(path)")
    }
  }

  private static func listen(at path: String) throws(Errno) -> SequencedSocket {
    do {
      return try SequencedSocket.listen(at: path)
    } catch .addressInUse {
      // A socket that refuses connections was left behind by a process that is gone.
      do {
        _ = try SequencedSocket.connect(to: path)
      } catch .connectionRefused {
        guard FileKind.isSocket(path) else { throw .addressInUse }
        FileKind.remove(path)
        return try SequencedSocket.listen(at: path)
      } catch {}
      throw .addressInUse
    }
  }

  func ready() {
    while let socket = try? socket.accept() {
      guard let peer = try? socket.peerCredentials() else { continue }
      guard options.allows(peer) else {
        Self.refuse(peer, over: socket)
        continue
      }
      SharedMemoryConnectionRequest.wait(on: socket, peer: peer, events: events)
    }
  }

  private static func refuse(_ peer: SequencedSocket.PeerCredentials, over socket: SequencedSocket)
  {
    let words =
      "expected a process of user \(CallingUser.id) or of root, this one is of user "
      + "\(peer.userID): run both as one user"
    try? socket.send(ControlMessage.reject(Array(words.utf8)).bytes)
  }

  func expire(at now: MonotonicTime) {}

  func close() {
    guard !isClosed.exchange(true, ordering: .acquiringAndReleasing) else { return }
    events.remove(tag: tag.load(ordering: .relaxed), descriptor: socket.descriptor.rawValue)
    FileKind.remove(address.endpoint)
    SequencedSocket.shutDown(socket.descriptor.rawValue)
  }
}

/// A peer at the door: first its hello is awaited, then the user's answer.
final class SharedMemoryConnectionRequest: ConnectionRequest, EventSource, @unchecked Sendable {
  private struct State {
    var socket: SequencedSocket?
    var opening: ControlMessage.Opening?
    var segment: CInt?
    var tag: UInt64 = 0
    var deadline: MonotonicTime
  }

  let peer: SequencedSocket.PeerCredentials
  private let events: SharedMemoryEventChannel
  private let number: CInt
  private let state: Mutex<State>

  var peerDescription: String { "process \(peer.processID) of user \(peer.userID)" }
  var privateData: [UInt8] { state.withLock { $0.opening?.privateData ?? [] } }

  private init(
    _ socket: SequencedSocket, peer: SequencedSocket.PeerCredentials,
    events: SharedMemoryEventChannel
  ) {
    self.peer = peer
    self.events = events
    number = socket.descriptor.rawValue
    state = Mutex(State(socket: socket, deadline: .now + .seconds(5)))
  }

  static func wait(
    on socket: SequencedSocket, peer: SequencedSocket.PeerCredentials,
    events: SharedMemoryEventChannel
  ) {
    let request = SharedMemoryConnectionRequest(socket, peer: peer, events: events)
    if let tag = try? events.add(request, descriptor: request.number) {
      request.state.withLock { $0.tag = tag }
      // The hello may have come with the connection.
      request.ready()
    }
  }

  func ready() {
    let isComplete: Bool? = state.withLock { state in
      guard let socket = state.socket else { return false }
      return unsafe withUnsafeTemporaryAllocation(
        byteCount: ControlMessage.maximumByteCount, alignment: 8
      ) { raw -> Bool? in
        switch unsafe socket.receive(into: raw) {
        case .nothing: return nil
        case .hangUp: return false
        case .datagram(let byteCount, let descriptors, let isTruncated):
          let view = unsafe WireView(raw.baseAddress!, byteCount: byteCount)
          do throws(ControlMessage.Malformed) {
            guard !isTruncated, descriptors.count == 1,
              case .hello(let opening) = try ControlMessage(view)
            else { throw .fields }
            state.opening = opening
            state.segment = descriptors[0]
            return true
          } catch {
            for number in descriptors { _ = Descriptor(owning: number) }
            if case .version(let version) = error { Self.refuse(version, over: socket) }
            return false
          }
        }
      }
    }
    guard let isComplete else { return }
    events.remove(tag: state.withLock { $0.tag }, descriptor: number)
    if isComplete {
      events.post(.connectRequest(self))
    } else {
      state.withLock { $0.socket = nil }
    }
  }

  /// Tells a peer of another version why; a reject reads the same in every version.
  private static func refuse(_ version: UInt8, over socket: SequencedSocket) {
    let words =
      "expected version \(ControlMessage.version) of the shared-memory protocol, got version "
      + "\(version): update the older side"
    try? socket.send(ControlMessage.reject(Array(words.utf8)).bytes)
  }

  func expire(at now: MonotonicTime) {
    let (isLate, tag) = state.withLock { ($0.opening == nil && $0.deadline <= now, $0.tag) }
    guard isLate else { return }
    events.remove(tag: tag, descriptor: number)
    state.withLock { $0.socket = nil }
  }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard let queuePair = queuePair as? SharedMemoryQueuePair,
      let events = events as? SharedMemoryEventChannel, queuePair.state == .initialized
    else { throw .invalidState }
    guard privateData.count <= ControlMessage.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    guard case (let socket?, let opening?, let segment?) = take() else { throw .invalidState }
    let file = Descriptor(owning: segment)
    let connection = queuePair.connection
    do {
      try connection.open(socket, events: events, answerDeadline: nil)
      try connection.join(opening, file)
    } catch {
      throw .system(error, doing: "mapping the peer's memory")
    }
    connection.send(
      .welcome(connection.opening(privateData: privateData, of: queuePair)),
      descriptor: queuePair.ownFile.descriptor.rawValue)
    queuePair.domain.attach(queuePair)
    events.post(.established(queuePair, privateData: opening.privateData))
  }

  private func take() -> (SequencedSocket?, ControlMessage.Opening?, CInt?) {
    state.withLock { state in
      let socket = state.socket.take()
      let segment = state.segment.take()
      return (socket, state.opening, segment)
    }
  }

  func reject(privateData: [UInt8]) {
    let data = Array(privateData.prefix(ControlMessage.maximumPrivateDataByteCount))
    let (socket, opening, segment) = take()
    if let segment { _ = Descriptor(owning: segment) }
    guard let socket, opening != nil else { return }
    try? socket.send(ControlMessage.reject(data).bytes)
  }

  deinit { reject(privateData: []) }
}
