import FabricPlatform

/// The floor of latency over TCP: as many bytes bounced between the two processes over a bare
/// socket, read by asking again and again, nothing else.
final class SocketFloor {
  private static let roundCount = 20_000
  /// On a machine too slow for as many.
  private static let limit: Duration = .seconds(1)

  private let socket: StreamSocket
  /// Where the other process finds it: a port of the loopback interface.
  let port: UInt16

  /// Listens.
  init() throws {
    socket = try StreamSocket.listen(at: InternetAddress.resolve("127.0.0.1:0")[0])
    port = socket.ownAddress?.port ?? 0
  }

  /// Nanoseconds of half a round trip: the median of many, each timed by itself as ours are.
  func measure(size: Int) throws -> Double {
    let deadline = MonotonicTime.now + .seconds(10)
    var accepted = try socket.accept()
    while accepted == nil {
      guard MonotonicTime.now < deadline else { throw Failure("the peer process did not connect") }
      SystemThread.yield()
      accepted = try socket.accept()
    }
    guard let (peer, _) = accepted else { throw Failure("the peer process did not connect") }
    peer.prepare(silence: .seconds(10))
    let bytes = [UInt8](repeating: 0x5a, count: size)
    var rounds: [UInt64] = []
    rounds.reserveCapacity(Self.roundCount)
    let end = MonotonicTime.now + Self.limit
    while rounds.count < Self.roundCount {
      let start = MonotonicTime.now
      if start >= end && !rounds.isEmpty { break }
      try Self.put(bytes, to: peer)
      guard try Self.take(size, from: peer) else { throw Failure("the peer process hung up") }
      rounds.append(MonotonicTime.now.nanoseconds(since: start))
    }
    peer.endInOrder()
    return Double(rounds.sorted()[rounds.count / 2]) / 2
  }

  /// The other side: sends back what comes until there is no more.
  static func answer(port: UInt16, size: Int) throws {
    let socket = try StreamSocket.connect(to: InternetAddress.resolve("127.0.0.1:\(port)")[0])
    while socket.send([UInt8]()) != .bytes(0) || socket.connectError != nil {}
    socket.prepare(silence: .seconds(10))
    let bytes = [UInt8](repeating: 0x5a, count: size)
    while try take(size, from: socket) { try put(bytes, to: socket) }
  }

  private static func put(_ bytes: [UInt8], to socket: StreamSocket) throws {
    var sent = 0
    while sent < bytes.count {
      let result = unsafe bytes.withUnsafeBytes { raw in
        unsafe socket.send(UnsafeRawBufferPointer(rebasing: raw[sent...]))
      }
      switch result {
      case .bytes(let count): sent += count
      case .wouldBlock: continue
      case .end, .failed: throw Failure("the floor's socket broke")
      }
    }
  }

  /// False when the other side has ended.
  private static func take(_ count: Int, from socket: StreamSocket) throws -> Bool {
    try unsafe withUnsafeTemporaryAllocation(byteCount: count, alignment: 64) { room in
      var got = 0
      while got < count {
        switch unsafe socket.receive(UnsafeMutableRawBufferPointer(rebasing: room[got...])) {
        case .bytes(let more): got += more
        case .wouldBlock: continue
        case .end: return false
        case .failed: throw Failure("the floor's socket broke")
        }
      }
      return true
    }
  }
}
