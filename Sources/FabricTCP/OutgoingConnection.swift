import FabricAdapterParts
import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization

/// A queue pair on its way to a listener: its addresses in turn until one answers, then the start-up.
///
/// An address that says nothing does not hold up the next for longer than `attemptDelay`; the first
/// that connects is taken. (IW-39, RFC 8305)
final class OutgoingConnection: EventSource, @unchecked Sendable {
  private enum Phase {
    case connecting
    case starting(StartUp)
    case over
  }

  private struct State {
    var phase = Phase.connecting
    /// The kernel connects; nobody has answered yet.
    var attempts: [ConnectAttempt] = []
    /// When the next address is tried beside them.
    var nextAttempt = MonotonicTime(nanoseconds: 0)
    var socket: StreamSocket?
    var peer: InternetAddress?
    var tag: UInt64 = 0
    /// A responder has hung up on revision 2 of MPA: another stream is tried with 1. (IW-7)
    var isOlder = false
    /// Not tried yet.
    var addresses: ArraySlice<InternetAddress>
    var lastError: Errno?
  }

  /// RFC 8305 section 5.
  static let attemptDelay: Duration = .milliseconds(250)

  private let queuePair: TCPQueuePair
  private let target: FabricAddress
  private let privateData: [UInt8]
  private let deadline: MonotonicTime
  private let timeout: Duration
  private let options: TCPOptions
  private let events: EventChannel
  private let state: Mutex<State>

  private init(
    _ queuePair: TCPQueuePair, to target: FabricAddress, _ addresses: [InternetAddress],
    privateData: [UInt8], timeout: Duration, options: TCPOptions, events: EventChannel
  ) {
    self.queuePair = queuePair
    self.target = target
    self.privateData = privateData
    self.timeout = timeout
    deadline = .now + timeout
    self.options = options
    self.events = events
    state = Mutex(State(addresses: Self.alternating(addresses)[...]))
  }

  static func start(
    _ queuePair: TCPQueuePair, to target: FabricAddress, _ addresses: [InternetAddress],
    privateData: [UInt8], timeout: Duration, options: TCPOptions, events: EventChannel
  ) {
    OutgoingConnection(
      queuePair, to: target, addresses, privateData: privateData, timeout: timeout,
      options: options, events: events
    ).tryNext()
  }

  /// The families in turn, beginning with that of the first. (RFC 8305 section 4)
  static func alternating(_ addresses: [InternetAddress]) -> [InternetAddress] {
    var ours = addresses.filter { $0.host.count == addresses[0].host.count }[...]
    var others = addresses.filter { $0.host.count != addresses[0].host.count }[...]
    var result: [InternetAddress] = []
    while !(ours.isEmpty && others.isEmpty) {
      if let next = ours.popFirst() { result.append(next) }
      if let next = others.popFirst() { result.append(next) }
    }
    return result
  }

  /// Begins with the next address; gives up when there is none, and none is under way.
  private func tryNext() {
    let failure: ConnectError? = state.withLock { state in
      while let address = state.addresses.popFirst() {
        do throws(Errno) {
          let attempt = ConnectAttempt(try StreamSocket.connect(to: address), to: address, of: self)
          attempt.tag = try events.addOutput(attempt, descriptor: attempt.socket.number)
          state.attempts.append(attempt)
          state.nextAttempt = .now + Self.attemptDelay
          return nil
        } catch {
          state.lastError = error
        }
      }
      if !state.attempts.isEmpty { return nil }
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
      .turnedAway(
        "the listener at \(target.endpoint) turned this connection away before it answered: it may "
          + "have as many as it takes; try again later")
    default: .system(error, doing: "connecting to \(target.endpoint)")
    }
  }

  func ready() { progress() }

  /// The kernel has connected to an address, or could not.
  fileprivate func ended(_ attempt: ConnectAttempt) {
    let isThere: Bool? = state.withLock { state in
      guard case .connecting = state.phase,
        let index = state.attempts.firstIndex(where: { $0 === attempt })
      else { return nil }
      state.attempts.remove(at: index).leave(events)
      do throws(Errno) {
        if let error = attempt.socket.connectError { throw error }
        state.tag = try events.add(self, descriptor: attempt.socket.number)
      } catch {
        state.lastError = error
        return false
      }
      for other in state.attempts { other.leave(events) }
      state.attempts = []
      start(on: attempt, &state)
      return true
    }
    if let isThere { isThere ? progress() : tryNext() }
  }

  private func start(on attempt: ConnectAttempt, _ state: inout State) {
    state.socket = attempt.socket
    state.peer = attempt.peer
    attempt.socket.prepare(silence: options.silence)
    var options = options
    if state.isOlder { options.isEnhanced = false }
    state.phase = .starting(
      StartUp(
        initiator: options.initiator(wantsChecksums: options.wantsChecksums(with: attempt.peer)),
        privateData: privateData, deadline: deadline))
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
      case .failed(let failure): return fail(.protocolMismatch("\(target.endpoint): \(failure)"))
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
      state.addresses = [peer]
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
      if queuePair.state == .error {
        _ = leave()
      } else if isNextDue(at: now) {
        tryNext()
      }
      return
    }
    fail(.timedOut(lateness(at: now)))
  }

  /// What has not come in time.
  private func lateness(at now: MonotonicTime) -> String {
    let failure: StartUp.Failure? = state.withLock { state in
      guard case .starting(var start) = state.phase else { return nil }
      start.timePassed(now)
      guard case .failed(let failure) = start.nextEffect() else { return nil }
      return failure
    }
    guard let failure else {
      return
        "expected an answer from \(target.endpoint) within \(timeout), got none: check host and "
        + "port, and what filters the network between"
    }
    return "\(target.endpoint) takes connections, but within \(timeout): \(failure)"
  }

  private func isNextDue(at now: MonotonicTime) -> Bool {
    state.withLock { state in
      guard case .connecting = state.phase else { return false }
      return !state.addresses.isEmpty && state.nextAttempt <= now
    }
  }

  /// No more events; false when there were none any more.
  private func leave() -> Bool {
    state.withLock { state in
      if case .over = state.phase { return false }
      state.phase = .over
      for attempt in state.attempts { attempt.leave(events) }
      state.attempts = []
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

/// One address that the kernel connects to.
private final class ConnectAttempt: EventSource, @unchecked Sendable {
  let socket: StreamSocket
  let peer: InternetAddress
  private let connection: OutgoingConnection
  /// The event channel's; written and read under the connection's lock.
  var tag: UInt64 = 0

  init(_ socket: StreamSocket, to peer: InternetAddress, of connection: OutgoingConnection) {
    self.socket = socket
    self.peer = peer
    self.connection = connection
  }

  func ready() { connection.ended(self) }
  func expire(at now: MonotonicTime) { connection.expire(at: now) }

  func leave(_ events: EventChannel) { events.remove(tag: tag, descriptor: socket.number) }
}
