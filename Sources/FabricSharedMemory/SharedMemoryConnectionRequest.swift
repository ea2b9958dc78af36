import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

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
  private let events: EventChannel
  private let door: Door
  private let number: CInt
  private let state: Mutex<State>

  var peerDescription: String { "process \(peer.processID) of user \(peer.userID)" }
  var privateData: [UInt8] { state.withLock { $0.opening?.privateData ?? [] } }

  private init(
    _ socket: SequencedSocket, peer: SequencedSocket.PeerCredentials, door: Door,
    events: EventChannel
  ) {
    self.peer = peer
    self.door = door
    self.events = events
    number = socket.descriptor.rawValue
    state = Mutex(State(socket: socket, deadline: .now + .seconds(5)))
  }

  static func wait(
    on socket: SequencedSocket, peer: SequencedSocket.PeerCredentials, at door: Door,
    events: EventChannel
  ) {
    let request = SharedMemoryConnectionRequest(socket, peer: peer, door: door, events: events)
    guard let tag = try? events.add(request, descriptor: request.number) else { return }
    request.state.withLock { $0.tag = tag }
    door.enter(request)?.turnAway()
    // The hello may have come with the connection.
    request.ready()
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
    guard isComplete else { return turnAway() }
    leaveDoor()
    events.post(.connectRequest(self))
  }

  private func leaveDoor() {
    door.leave(self)
    events.remove(tag: state.withLock { $0.tag }, descriptor: number)
  }

  /// Hangs up on a peer that has not said a proper hello.
  func turnAway() {
    leaveDoor()
    state.withLock { $0.socket = nil }
  }

  /// Tells a peer of another version why; a reject reads the same in every version.
  private static func refuse(_ version: UInt8, over socket: SequencedSocket) {
    let words =
      "expected version \(ControlMessage.version) of the shared-memory protocol, got version "
      + "\(version): update the older side"
    try? socket.send(ControlMessage.reject(Array(words.utf8)).bytes)
  }

  func expire(at now: MonotonicTime) {
    let isLate = state.withLock { $0.opening == nil && $0.deadline <= now }
    if isLate { turnAway() }
  }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard let queuePair = queuePair as? SharedMemoryQueuePair,
      let events = events as? EventChannel, queuePair.state == .initialized
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

/// Peers of one listener whose hello is awaited: so many at most, the oldest making room.
final class Door: Sendable {
  static let limit = 128
  private let waiting = Mutex<[SharedMemoryConnectionRequest]>([])

  /// Lets a peer wait; returns the one to be turned away for it.
  func enter(_ request: SharedMemoryConnectionRequest) -> SharedMemoryConnectionRequest? {
    waiting.withLock { waiting in
      waiting.append(request)
      return waiting.count > Self.limit ? waiting.removeFirst() : nil
    }
  }

  func leave(_ request: SharedMemoryConnectionRequest) {
    waiting.withLock { waiting in waiting.removeAll { $0 === request } }
  }
}
