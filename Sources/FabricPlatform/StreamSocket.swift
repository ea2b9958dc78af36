public import CFabricLinux

/// A TCP socket that never blocks, closed when its last user goes.
///
/// As long as it is connected, closing it (also by the death of the process) resets the connection,
/// so that the peer can tell that from an end in order, which `endInOrder` makes.
public final class StreamSocket: Sendable {
  public let descriptor: Descriptor

  init(owning descriptor: consuming Descriptor) { self.descriptor = descriptor }

  /// Begins to connect: `connectError` tells how it went once there is room for output.
  public static func connect(to address: InternetAddress) throws(Errno) -> StreamSocket {
    let socket = StreamSocket(owning: try Descriptor(result: fabric_tcp_socket(address.family)))
    var raw = address.raw
    if unsafe fabric_tcp_connect(socket.number, &raw) != 0 {
      let error = Errno.current
      guard error == .inProgress || error == .interrupted else { throw error }
    }
    return socket
  }

  /// Listens; port 0 chooses one.
  public static func listen(
    at address: InternetAddress, backlog: Int = 1024
  ) throws(Errno) -> StreamSocket {
    let socket = StreamSocket(owning: try Descriptor(result: fabric_tcp_socket(address.family)))
    let number = socket.number
    try Errno.check { fabric_set_option(number, fabric_level_socket, SO_REUSEADDR, 1) }
    if address.family == fabric_family_v6 {
      try Errno.check { fabric_set_option(number, fabric_level_v6, fabric_v6_only, 1) }
    }
    var raw = address.raw
    try Errno.check { unsafe fabric_tcp_bind(number, &raw) }
    try Errno.check { CFabricLinux.listen(number, CInt(backlog)) }
    return socket
  }

  /// The next connection to this listener, and whose; nil when none waits.
  public func accept() throws(Errno) -> (StreamSocket, InternetAddress)? {
    var raw = fabric_internet_address()
    let result = unsafe fabric_tcp_accept(number, &raw)
    if result >= 0 {
      return (StreamSocket(owning: Descriptor(owning: result)), InternetAddress(raw))
    }
    let error = Errno.current
    // Errors of the one connection that went before it was taken are not the listener's.
    if error.isShortage { throw error }
    return nil
  }

  /// Its number, for polling.
  public var number: CInt { descriptor.rawValue }

  public var ownAddress: InternetAddress? {
    var raw = fabric_internet_address()
    return unsafe fabric_tcp_own_address(number, &raw) == 0 ? InternetAddress(raw) : nil
  }

  /// How connecting ended; nil: it is connected.
  public var connectError: Errno? { handle.connectError }

  /// Made ready for messages: nothing waits to be sent together, a peer that cannot be reached any
  /// more is noticed, and closing resets.
  ///
  /// - Parameter silence: how long what was sent may stay unacknowledged, and, idle, how long
  ///   until a peer that does not answer is given up.
  public func prepare(silence: Duration) {
    let seconds = max(1, CInt(clamping: silence.nanoseconds / 1_000_000_000))
    _ = fabric_set_option(number, fabric_level_tcp, TCP_NODELAY, 1)
    _ = fabric_set_option(
      number, fabric_level_tcp, fabric_tcp_user_timeout,
      CInt(clamping: silence.nanoseconds / 1_000_000))
    _ = fabric_set_option(number, fabric_level_tcp, TCP_KEEPIDLE, max(1, seconds / 2))
    _ = fabric_set_option(number, fabric_level_tcp, TCP_KEEPINTVL, max(1, seconds / 6))
    _ = fabric_set_option(number, fabric_level_tcp, TCP_KEEPCNT, 3)
    _ = fabric_set_option(number, fabric_level_socket, SO_KEEPALIVE, 1)
    _ = fabric_set_reset_on_close(number, true)
  }

  /// Ends the sending direction behind what was sent; closing then resets nothing.
  public func endInOrder() {
    _ = fabric_set_reset_on_close(number, false)
    _ = shutdown(number, CInt(SHUT_WR))
  }

  /// As the death of the process does: the peer is reset.
  public func reset() {
    _ = fabric_set_reset_on_close(number, true)
    _ = fabric_tcp_reset(number)
  }

  /// Its calls, for a path where even naming the owner would count.
  public var handle: Handle { Handle(number: number) }

  /// As `Handle.peerHasEnded`.
  public var peerHasEnded: Bool { handle.peerHasEnded }

  /// As `Handle.send`.
  @unsafe
  public func send(_ pieces: UnsafePointer<iovec>, count: Int) -> Transfer {
    unsafe handle.send(pieces, count: count)
  }

  /// As `Handle.receive`.
  @unsafe
  public func receive(_ pieces: UnsafeMutablePointer<iovec>, count: Int) -> Transfer {
    unsafe handle.receive(pieces, count: count)
  }

  /// Sends bytes that lie together, as many as there is room for.
  @unsafe
  public func send(_ bytes: UnsafeRawBufferPointer) -> Transfer {
    var piece = unsafe iovec(
      iov_base: UnsafeMutableRawPointer(mutating: bytes.baseAddress), iov_len: bytes.count)
    return unsafe send(&piece, count: 1)
  }

  /// Receives as much as has come and `room` takes.
  @unsafe
  public func receive(_ room: UnsafeMutableRawBufferPointer) -> Transfer {
    var piece = unsafe iovec(iov_base: room.baseAddress, iov_len: room.count)
    return unsafe receive(&piece, count: 1)
  }

  /// Sends bytes, as many as there is room for.
  public func send(_ bytes: some Sequence<UInt8>) -> Transfer {
    var copy = Array(bytes)
    if copy.isEmpty { return .bytes(0) }
    return unsafe copy.withUnsafeMutableBytes { raw in
      var piece = unsafe iovec(iov_base: raw.baseAddress, iov_len: raw.count)
      return unsafe send(&piece, count: 1)
    }
  }

  /// Receives at most `limit` bytes behind those in `bytes`.
  public func receive(into bytes: inout [UInt8], limit: Int) -> Transfer {
    let count = bytes.count
    bytes.append(contentsOf: repeatElement(0, count: limit))
    let result = unsafe bytes.withUnsafeMutableBytes { raw in
      var piece = unsafe iovec(iov_base: raw.baseAddress! + count, iov_len: limit)
      return unsafe receive(&piece, count: 1)
    }
    if case .bytes(let received) = result {
      bytes.removeLast(limit - received)
    } else {
      bytes.removeLast(limit)
    }
    return result
  }
}
