import CFabricLinux
import FabricBounded
import FabricPlatform
public import FabricWire

/// One connection's byte stream, with its handler. Confined to its front end's thread; nothing is
/// allocated in the steady state, and one receive and one send call serve many messages.
///
/// Input comes to `StreamHandler.stream(_:received:)`. Output is queued with `header` and `data` and
/// leaves at the end of the service's round, or, for what is queued inside a handler's call, soon
/// after the call; all of it with one system call where the socket has room.
@safe
public final class ServedStream {
  enum State {
    case open
    /// Closes once everything queued is out; input is not looked at.
    case draining
    /// This direction has ended; what still comes is thrown away until the peer ends its own.
    case ending
    case closed
  }

  /// Unlike that of any other stream of the front end, until 2^32 have come.
  public let number: UInt32
  public let peer: StreamPeer
  /// The listener's address that the peer came to.
  public let localAddress: StreamAddress
  let socket: StreamSocket
  let handle: StreamSocket.Handle
  unowned let server: StreamServer
  var handler: (any StreamHandler)?
  let output = OutputQueue()
  /// Bytes in `output` from which on the handler rests.
  private let outputByteLimit: Int
  var state = State.open
  var deadline: MonotonicTime?

  // Input
  /// Bytes that the handler has not consumed.
  var leftover: UnsafeMutableRawPointer?
  var leftoverCapacity = 0
  var leftoverByteCount = 0
  /// Whether the handler is to look at them though nothing has come.
  var leftoverIsNews = false
  /// Whether the handler wants no more in this turn.
  var isYielding = false
  var placementAddress: UInt64 = 0
  var placementByteCount = 0
  /// Whether the socket may have something.
  var mayHaveInput = true
  /// Whether the peer has ended its direction, or the connection failed: a receive will tell.
  var endIsNear = false
  /// Looks at the socket that need no word of the kernel's, and whether the next turn is one.
  var eagerness = 0
  var isEager = false
  private var handlerRests = false
  private var outputIsFull = false

  // The server's lists
  var isActive = false
  var isTouched = false

  // Output
  /// Whether the socket had no room the last time.
  var isBlocked = false
  /// Both ways.
  var movedByteCount: UInt64 = 0

  /// How many bytes the handler needs at the least the next time; set by it in `received`. At most
  /// `StreamServer.inputByteCount`.
  public var neededByteCount = 1 {
    didSet {
      precondition(neededByteCount <= StreamServer.inputByteCount, "more than is ever received")
    }
  }

  /// Whether the peer has said who it is, or what else the protocol begins with. Until then the
  /// handshake's time-out runs and this peer makes room when too many come.
  public var isKnown = false

  init(
    number: UInt32, socket: StreamSocket, peer: StreamPeer, at address: StreamAddress,
    server: StreamServer
  ) {
    self.number = number
    self.socket = socket
    self.peer = peer
    localAddress = address
    self.server = server
    handle = socket.handle
    outputByteLimit = server.options.outputByteLimit
  }

  deinit { unsafe leftover?.deallocate() }

  // MARK: Input

  /// Whether the handler should consume no further message now: it said so, or the peer does not
  /// take what is queued for it. The rest comes again when that is over.
  public var isResting: Bool { handlerRests || outputIsFull || state != .open }

  /// Gives the handler no input until `resumeInput`. To be said when something is short, so that what
  /// the peer sends waits in the socket and then at the peer.
  public func pauseInput() { handlerRests = true }

  /// Gives the handler input again, from the round under way or the next one on; what it had not
  /// consumed comes first.
  public func resumeInput() {
    guard handlerRests else { return }
    handlerRests = false
    leftoverIsNews = true
    server.activate(self)
  }

  /// Lets others have their turn before the handler is given what it has not consumed: for who has
  /// done much in one call.
  public func yield() {
    isYielding = true
    leftoverIsNews = true
    server.activate(self)
  }

  /// The bytes behind those consumed go to `address`: what is here already at once, the rest straight
  /// from the socket. Only from inside `received` or `streamDidPlace`, once in a call.
  ///
  /// - Parameters:
  ///   - address: writable and the stream's until `streamDidPlace`, or the end.
  ///   - byteCount: not 0.
  public func place(byteCount: Int, at address: UInt64) {
    precondition(placementByteCount == 0 && byteCount > 0, "one placement at a time")
    placementAddress = address
    placementByteCount = byteCount
  }

  // MARK: Output

  /// Queues `byteCount` bytes, at most some hundred, that the caller writes into the returned buffer
  /// before it queues anything else.
  public func header(byteCount: Int) -> WireBuffer {
    guard state == .open else { return server.scratch(byteCount) }
    touch()
    let room = output.appendCopy(byteCount: byteCount)
    if output.byteCount > outputByteLimit { outputIsFull = true }
    return room
  }

  /// Queues data by reference.
  ///
  /// - Parameters:
  ///   - address: must keep its bytes until the token is told, or the stream has ended.
  ///   - token: told by `sent`; nil: nobody needs to know. Not `UInt64.max`.
  public func data(address: UInt64, byteCount: Int, token: UInt64?) {
    guard state == .open, byteCount > 0 else { return }
    touch()
    output.appendReference(
      address: address, byteCount: byteCount, token: token ?? OutputQueue.noToken)
    if output.byteCount > outputByteLimit { outputIsFull = true }
  }

  private func touch() {
    if isTouched { return }
    isTouched = true
    server.touched.append(UncountedReference(self))
  }

  /// Sends what is queued as far as there is room. False when there was not enough.
  @discardableResult
  func flush() -> Bool {
    while !output.isEmpty, state == .open || state == .draining {
      let count = unsafe output.fill(server.vectors)
      let result = unsafe handle.send(server.vectors, count: count)
      switch result {
      case .bytes(let count):
        isBlocked = false
        movedByteCount &+= UInt64(count)
        let tokens = output.advance(count, tokens: server.tokens)
        if tokens > 0 {
          server.tokens.withSpan(prefix: tokens) { handler?.stream(self, sent: $0) }
        }
      case .wouldBlock:
        isBlocked = true
        return false
      case .end: end(.peerEnded)
      case .failed(let error): end(.failed("sending failed: \(error)"))
      }
    }
    if outputIsFull, output.byteCount <= outputByteLimit / 2 {
      outputIsFull = false
      leftoverIsNews = true
      server.activate(self)
    }
    if state == .draining, output.isEmpty { endDirection() }
    return true
  }

  // MARK: End

  /// Ends the stream in order once everything queued is sent. No more input comes to the handler.
  public func close() {
    guard state == .open else { return }
    touch()
    state = .draining
    server.await(self, until: .now + StreamServer.endingTime)
  }

  /// Ends the stream now; the peer is told as far as that is possible, what is queued is dropped. The
  /// handler is told from inside this call.
  public func reset() { end(.reset) }

  /// Everything is sent. An end while input waits would reset the connection, and might take from
  /// the peer what was just sent: so the peer goes first, or its time runs out.
  private func endDirection() {
    state = .ending
    socket.endInOrder()
    mayHaveInput = true
    server.activate(self)
  }

  /// The stream is no more.
  func end(_ reason: StreamEnd) {
    guard state != .closed else { return }
    if state != .ending { socket.reset() }
    let reason = state == .ending ? .closed : reason
    state = .closed
    server.forget(self)
    let handler = handler.take()
    handler?.stream(self, closed: reason)
  }
}
