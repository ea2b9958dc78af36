import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// A queue pair on its way to a listener: one address after the other until one answers, then the
/// start-up.
final class OutgoingConnection: EventSource, @unchecked Sendable {
  private enum Phase {
    case connecting
    case starting(StartUp)
    case over
  }

  private struct State {
    var phase = Phase.connecting
    var socket: StreamSocket?
    var peer: InternetAddress?
    var tag: UInt64 = 0
    /// A responder has hung up on revision 2 of MPA: another stream is tried with 1. (IW-7)
    var isOlder = false
    /// Not tried yet.
    var addresses: ArraySlice<InternetAddress>
    var lastError: Errno?
  }

  private let queuePair: TCPQueuePair
  private let target: FabricAddress
  private let privateData: [UInt8]
  private let deadline: MonotonicTime
  private let options: TCPOptions
  private let events: EventChannel
  private let state: Mutex<State>

  private init(
    _ queuePair: TCPQueuePair, to target: FabricAddress, _ addresses: [InternetAddress],
    privateData: [UInt8], deadline: MonotonicTime, options: TCPOptions, events: EventChannel
  ) {
    self.queuePair = queuePair
    self.target = target
    self.privateData = privateData
    self.deadline = deadline
    self.options = options
    self.events = events
    state = Mutex(State(addresses: addresses[...]))
  }

  static func start(
    _ queuePair: TCPQueuePair, to target: FabricAddress, _ addresses: [InternetAddress],
    privateData: [UInt8], deadline: MonotonicTime, options: TCPOptions, events: EventChannel
  ) {
    OutgoingConnection(
      queuePair, to: target, addresses, privateData: privateData, deadline: deadline,
      options: options, events: events
    ).tryNext()
  }

  /// Begins with the next address, or gives up.
  private func tryNext() {
    let failure: ConnectError? = state.withLock { state in
      while let address = state.addresses.popFirst() {
        do throws(Errno) {
          let socket = try StreamSocket.connect(to: address)
          state.tag = try events.addOutput(self, descriptor: socket.number)
          state.socket = socket
          state.peer = address
          return nil
        } catch {
          state.lastError = error
        }
      }
      return unreachable(state.lastError ?? .connectionRefused)
    }
    if let failure { fail(failure) }
  }

  private func unreachable(_ error: Errno) -> ConnectError {
    switch error {
    case .connectionRefused:
      .unreachable(
        "expected a listener at \(target.endpoint), but nobody listens there: start the process "
          + "that listens, or check host and port")
    case .timedOut, .hostUnreachable, .networkUnreachable:
      .unreachable("expected to reach \(target.endpoint), got \"\(error)\": check the network")
    case .connectionReset:
      .unreachable("the listener at \(target.endpoint) hung up before it answered")
    default: .system(error, doing: "connecting to \(target.endpoint)")
    }
  }

  func ready() {
    let isConnecting = state.withLock { state in
      if case .connecting = state.phase { true } else { false }
    }
    isConnecting ? connected() : progress()
  }

  /// The kernel has connected, or could not.
  private func connected() {
    let isThere = state.withLock { state -> Bool in
      guard let socket = state.socket, let peer = state.peer else { return true }
      if let error = socket.connectError {
        events.remove(tag: state.tag, descriptor: socket.number)
        state.lastError = error
        state.socket = nil
        return false
      }
      socket.prepare(silence: options.silence)
      events.wantInput(tag: state.tag, descriptor: socket.number)
      var options = options
      if state.isOlder { options.isEnhanced = false }
      state.phase = .starting(
        StartUp(
          initiator: options.initiator(wantsChecksums: options.wantsChecksums(with: peer)),
          privateData: privateData, deadline: deadline))
      return true
    }
    isThere ? progress() : tryNext()
  }

  /// What the start-up asks for, until there is nothing.
  private func progress() {
    var bytes: [UInt8] = []
    while true {
      let (effect, socket) = state.withLock { state in nextEffect(&state) }
      guard let socket else { return }
      switch effect {
      case .send(let frame):
        // A fresh socket has room for a frame.
        if case .failed(let error) = socket.send(frame) { return fail(unreachable(error)) }
      case .established(let agreement, let data):
        return established(socket, agreement, data, early: bytes)
      case .rejected(let data): return fail(.rejected(data))
      case .failed(let failure): return fail(.protocolMismatch("\(target): \(failure)"))
      case .requested: return
      case nil:
        bytes.removeAll()
        switch socket.receive(into: &bytes, limit: 4096) {
        case .bytes:
          state.withLock { state in
            take(&bytes, &state)
          }
        case .wouldBlock: return
        case .end:
          if mayBeOlder() { return tryNext() }
          return fail(
            .unreachable(
              "the listener at \(target.endpoint) hung up without an answer: is its process still "
                + "running, and does it speak iWARP?"))
        case .failed(let error): return fail(unreachable(error))
        }
      }
    }
  }

  /// The stream has ended in the start-up. True, once only, when that may be because of the
  /// revision: the same address is the next to be tried then.
  private func mayBeOlder() -> Bool {
    state.withLock { state in
      guard case .starting(var start) = state.phase, let socket = state.socket,
        let peer = state.peer, !state.isOlder
      else { return false }
      start.streamEnded()
      guard case .failed(let failure) = start.nextEffect(), failure.mayBeOlderPeer else {
        return false
      }
      events.remove(tag: state.tag, descriptor: socket.number)
      state.socket = nil
      state.phase = .connecting
      state.isOlder = true
      state.addresses = [peer] + state.addresses
      return true
    }
  }

  private func nextEffect(_ state: inout State) -> (StartUp.Effect?, StreamSocket?) {
    guard case .starting(var start) = state.phase else { return (nil, nil) }
    let effect = start.nextEffect()
    state.phase = .starting(start)
    return (effect, state.socket)
  }

  /// Gives bytes to the start-up; those behind it stay.
  private func take(_ bytes: inout [UInt8], _ state: inout State) {
    guard case .starting(var start) = state.phase else { return }
    let taken = unsafe bytes.withUnsafeBytes { raw in
      start.receive(unsafe WireView(raw), at: .now)
    }
    bytes.removeFirst(taken)
    state.phase = .starting(start)
  }

  private func established(
    _ socket: StreamSocket, _ agreement: StartUp.Agreement, _ data: [UInt8], early: [UInt8]
  ) {
    guard leave() else { return }
    guard queuePair.join(socket, agreement, early: early, ticket: nil, events: events) else {
      return
    }
    events.post(.established(queuePair, privateData: data))
  }

  func expire(at now: MonotonicTime) {
    guard deadline <= now else {
      // Disconnected or destroyed before there was a connection.
      if queuePair.state == .error { _ = leave() }
      return
    }
    fail(.timedOut("expected an answer from \(target.endpoint) in time, got none"))
  }

  /// No more events; false when there were none any more.
  private func leave() -> Bool {
    state.withLock { state in
      if case .over = state.phase { return false }
      state.phase = .over
      if let socket = state.socket { events.remove(tag: state.tag, descriptor: socket.number) }
      state.socket = nil
      return true
    }
  }

  private func fail(_ error: ConnectError) {
    guard leave() else { return }
    queuePair.fail(.failure("not connected"))
    events.post(.failed(queuePair, error))
  }
}
