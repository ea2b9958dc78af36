import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// A peer at the door: first its MPA request is awaited, then the user's answer.
final class IncomingConnection: ConnectionRequest, EventSource, @unchecked Sendable {
  private struct State {
    var socket: StreamSocket?
    var start: StartUp
    var tag: UInt64 = 0
    /// The request has come; its private data.
    var asked: [UInt8]?
    var ticket: AddressTicket?
  }

  let peer: InternetAddress
  private let door: Door
  private let options: TCPOptions
  private let events: EventChannel
  private let state: Mutex<State>

  var peerDescription: String { "\(peer)" }
  var privateData: [UInt8] { state.withLock { $0.asked ?? [] } }

  private init(
    _ socket: StreamSocket, from peer: InternetAddress, ticket: AddressTicket, at door: Door,
    options: TCPOptions, events: EventChannel
  ) {
    self.peer = peer
    self.door = door
    self.options = options
    self.events = events
    state = Mutex(
      State(
        socket: socket,
        start: StartUp(
          responder: options.responder(wantsChecksums: options.wantsChecksums(with: peer)),
          deadline: .now + options.startUpTimeout),
        ticket: ticket))
  }

  static func wait(
    on socket: StreamSocket, from peer: InternetAddress, ticket: AddressTicket, at door: Door,
    options: TCPOptions, events: EventChannel
  ) {
    let request = IncomingConnection(
      socket, from: peer, ticket: ticket, at: door, options: options, events: events)
    guard let tag = try? events.add(request, descriptor: socket.number) else { return }
    request.state.withLock { $0.tag = tag }
    door.enter(request)?.turnAway()
    // The request may have come with the connection.
    request.ready()
  }

  func ready() {
    var isAsked = false
    let isOver = state.withLock { state -> Bool in
      guard let socket = state.socket, state.asked == nil else { return false }
      var bytes: [UInt8] = []
      switch socket.receive(into: &bytes, limit: 1024) {
      case .bytes: break
      case .wouldBlock: return false
      case .end, .failed: return true
      }
      _ = unsafe bytes.withUnsafeBytes { raw in
        state.start.receive(unsafe WireView(raw), at: .now)
      }
      return draw(&state, &isAsked)
    }
    if isOver { return turnAway() }
    guard isAsked else { return }
    leaveDoor()
    events.post(.connectRequest(self))
  }

  /// Carries out what the start-up asks for; true when the peer is to be turned away.
  private func draw(_ state: inout State, _ isAsked: inout Bool) -> Bool {
    while let effect = state.start.nextEffect() {
      switch effect {
      case .requested(let data):
        state.asked = data
        isAsked = true
      case .send(let bytes): _ = state.socket?.send(bytes)
      case .failed:
        state.socket?.endInOrder()
        return true
      case .established, .rejected: break
      }
    }
    return false
  }

  private func leaveDoor() {
    door.leave(self)
    state.withLock { state in
      if let socket = state.socket { events.remove(tag: state.tag, descriptor: socket.number) }
    }
  }

  /// Hangs up on a peer that has not made a proper request.
  func turnAway() {
    leaveDoor()
    state.withLock { state in
      state.socket = nil
      state.ticket = nil
    }
  }

  func expire(at now: MonotonicTime) {
    var isAsked = false
    let isOver = state.withLock { state -> Bool in
      guard state.asked == nil else { return false }
      state.start.timePassed(now)
      return draw(&state, &isAsked)
    }
    if isOver { turnAway() }
  }

  func accept(
    _ queuePair: any QueuePair, privateData: [UInt8], events: any ConnectionEventChannel
  ) throws(ConnectError) {
    guard let queuePair = queuePair as? TCPQueuePair, let events = events as? EventChannel,
      queuePair.state == .initialized
    else { throw .invalidState }
    guard privateData.count <= options.maximumPrivateDataByteCount else {
      throw .privateDataTooLong
    }
    let (socket, ticket, asked, effects) = state.withLock { state in
      guard let socket = state.socket.take() else {
        return (nil as StreamSocket?, nil as AddressTicket?, [UInt8](), [StartUp.Effect]())
      }
      state.start.accept(privateData: privateData)
      var effects: [StartUp.Effect] = []
      while let effect = state.start.nextEffect() { effects.append(effect) }
      return (socket, state.ticket.take(), state.asked ?? [], effects)
    }
    guard let socket, queuePair.transition(from: .initialized, to: .readyToReceive) else {
      throw .invalidState
    }
    for effect in effects {
      switch effect {
      case .send(let bytes):
        // A fresh socket has room for a frame; of a broken one the queue pair hears soon.
        _ = socket.send(bytes)
      case .established(let agreement, _):
        guard queuePair.join(socket, agreement, early: [], ticket: ticket, events: events) else {
          return
        }
        events.post(.established(queuePair, privateData: asked))
      default: break
      }
    }
  }

  func reject(privateData: [UInt8]) {
    let data = Array(privateData.prefix(options.maximumPrivateDataByteCount))
    let socket: StreamSocket? = state.withLock { state in
      guard let socket = state.socket.take(), state.asked != nil else { return nil }
      state.start.reject(privateData: data)
      while let effect = state.start.nextEffect() {
        if case .send(let bytes) = effect { _ = socket.send(bytes) }
      }
      return socket
    }
    guard let socket else { return }
    socket.endInOrder()
    LingeringSocket.wait(on: socket, ticket: nil, events: events)
  }

  deinit { reject(privateData: []) }
}
