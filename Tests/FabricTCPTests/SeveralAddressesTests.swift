import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Testing

@testable import FabricTCP

/// Names that stand for several addresses; which ones is given, as the resolver would.
@Suite("TCP adapter: several addresses")
struct SeveralAddressesTests {
  private static let name = FabricAddress(fabric: "tcp", endpoint: "several.invalid:0")

  private func places(_ texts: String...) throws -> [InternetAddress] {
    try texts.map { try #require(try InternetAddress.resolve($0).first) }
  }

  private func listen(_ places: [InternetAddress], for side: Side) throws {
    let events = try #require(side.events as? EventChannel)
    side.listener = try TCPListener(at: Self.name, places, options: TCPOptions(), events: events)
  }

  /// Connects a queue pair of `side`, as if a name stood for `places`.
  private func connect(_ side: Side, to places: [InternetAddress]) throws {
    let queuePair = try #require(try side.makeQueuePair() as? TCPQueuePair)
    #expect(queuePair.transition(from: .initialized, to: .readyToReceive))
    OutgoingConnection.start(
      queuePair, to: Self.name, places, privateData: [], timeout: .seconds(5),
      options: TCPOptions(), events: try #require(side.events as? EventChannel))
  }

  @Test("IW-38: all addresses are listened at, with one port where the system chooses")
  func allAddresses() throws {
    let side = try Side(TCPAdapter())
    try listen(places("[::1]:0", "127.0.0.1:0", "127.0.0.2:0"), for: side)
    let endpoints = try #require(side.listener).addresses.map(\.endpoint)
    let found = try endpoints.map { try InternetAddress.resolve($0)[0] }
    #expect(found.map(\.hostDescription) == ["::1", "127.0.0.1", "127.0.0.2"])
    #expect(Set(found.map(\.port)).count == 1 && found[0].port != 0)
    #expect(side.endpoint == endpoints[0])
    let peers = try endpoints.map { try RawPeer(to: $0) }
    try RawPeer.wait("one gets in at each") {
      side.poll()
      return side.establishedCount == peers.count
    }
    side.listener?.close()
    let late = try StreamSocket.connect(to: found[1])
    try RawPeer.wait("none is listened at any more") { late.connectError == .connectionRefused }
  }

  @Test("IW-38: addresses of IPv4 and IPv6 do not clash, the wildcards neither")
  func wildcards() throws {
    let four = try Side.listening(at: "0.0.0.0:0")
    let port = try InternetAddress.split(four.endpoint).port
    let six = try Side.listening(at: "[::]:\(port)")
    let peers = [try RawPeer(to: "127.0.0.1:\(port)"), try RawPeer(to: "[::1]:\(port)")]
    for (side, host) in [(four, "127.0.0.1:"), (six, "[::1]:")] {
      side.accepts = false
      try RawPeer.wait("a peer is there") {
        side.poll()
        return side.requests.count == 1
      }
      #expect(side.requests[0].peerDescription.hasPrefix(host))
    }
    _ = peers
  }

  @Test("IW-38: an address that the machine has not is left out, one that is taken is refused")
  func missingAndTaken() throws {
    let side = try Side(TCPAdapter())
    // An address of no machine (RFC 5737).
    try listen(places("192.0.2.1:0", "127.0.0.1:0"), for: side)
    #expect(side.listener?.addresses.count == 1 && side.endpoint.hasPrefix("127.0.0.1:"))
    let other = try Side(TCPAdapter())
    let port = try InternetAddress.split(side.endpoint).port
    #expect {
      try listen(places("[::1]:\(port)", "127.0.0.1:\(port)"), for: other)
    } throws: { error in
      guard case .addressInUse(let words)? = error as? ConnectError else { return false }
      return words.contains("several.invalid:0 (127.0.0.1:\(port))")
    }
    // Nothing is left of the attempt.
    try listen(places("[::1]:\(port)"), for: other)
    #expect(throws: ConnectError.self) { try listen(places("192.0.2.1:0"), for: other) }
  }

  @Test("IW-38: an adapter that keeps to this machine listens nowhere else")
  func loopbackOnly() throws {
    var options = TCPOptions()
    options.listensBeyondLoopback = false
    _ = try Side.listening(options, at: "127.0.0.1:0")
    #expect {
      _ = try Side.listening(options, at: "0.0.0.0:0")
    } throws: { error in
      guard case .invalidAddress(let words)? = error as? ConnectError else { return false }
      return words.contains("stands for 0.0.0.0:0")
    }
  }

  @Test("IW-39: addresses are tried in turn, past one that refuses and one that says nothing")
  func inTurn() throws {
    let server = try Side.listening()
    let good = try InternetAddress.resolve(server.endpoint)[0]
    let closed = try StreamSocket.listen(at: places("127.0.0.1:0")[0])
    let refusing = try #require(closed.ownAddress)
    let silent = try StreamSocket.listen(at: places("127.0.0.2:0")[0], backlog: 0)
    let saying = try #require(silent.ownAddress)
    // Nobody accepts: once this queue is full, the kernel answers no more.
    let waiting = try (0..<4).map { _ in try StreamSocket.connect(to: saying) }
    let client = try Side(TCPAdapter())
    closed.reset()
    let start = MonotonicTime.now
    try connect(client, to: [refusing, saying, good])
    try RawPeer.wait("connected") {
      server.poll()
      client.poll()
      return client.establishedCount == 1
    }
    #expect(MonotonicTime.now.nanoseconds(since: start) > 200_000_000)
    #expect(server.establishedCount == 1 && client.failed.isEmpty)
    _ = waiting
  }

  @Test("IW-39: when every address has failed, the connection has")
  func allFail() throws {
    let client = try Side(TCPAdapter())
    let free = try [places("127.0.0.1:0")[0], places("[::1]:0")[0]].map { place in
      try #require(try StreamSocket.listen(at: place).ownAddress)
    }
    try connect(client, to: free)
    try RawPeer.wait("it gives up") {
      client.poll()
      return client.failed.count == 1
    }
    guard case .unreachable = client.failed[0] else { throw client.failed[0] }
  }

  @Test("IW-39: the families alternate, beginning with that of the first")
  func alternating() throws {
    let given = try places("[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1")
    let hosts = OutgoingConnection.alternating(given).map(\.hostDescription)
    #expect(hosts == ["::1", "1.0.0.1", "::2", "1.0.0.2", "::3"])
    #expect(OutgoingConnection.alternating([]).isEmpty)
  }
}
