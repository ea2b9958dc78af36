import FabricIWARP
import FabricPlatform
import FabricVerbs
import Glibc
import Testing

@testable import FabricTCP

/// Peers that come, and do not do what they should.
@Suite("TCP adapter: the door")
struct DoorTests {
  private func isHungUpOn(_ peer: RawPeer) -> Bool {
    var bytes: [UInt8] = []
    switch peer.socket.receive(into: &bytes, limit: 64) {
    case .end, .failed: return true
    default: return false
    }
  }

  @Test("a peer that says nothing is hung up on in time")
  func silence() throws {
    var options = TCPOptions()
    options.startUpTimeout = .milliseconds(200)
    let side = try Side.listening(options)
    let peer = try RawPeer(to: side.endpoint, startsUp: false)
    let start = MonotonicTime.now
    try RawPeer.wait("it is hung up on") {
      side.poll()
      return isHungUpOn(peer)
    }
    #expect(MonotonicTime.now.nanoseconds(since: start) > 100_000_000)
  }

  @Test(
    "whoever speaks something else is hung up on at once",
    arguments: [
      "GET / HTTP/1.1\r\n\r\n", "SSH-2.0-OpenSSH_9.2\r\n", "MPA ID Rep Frame\u{0}\u{1}\u{0}\u{0}",
    ])
  func otherProtocols(_ words: String) throws {
    let side = try Side.listening()
    let peer = try RawPeer(to: side.endpoint, startsUp: false)
    peer.send(Array(words.utf8))
    try RawPeer.wait("it is hung up on") {
      side.poll()
      return isHungUpOn(peer)
    }
  }

  @Test("an address has so many connections and no more, until one ends")
  func connectionsPerAddress() throws {
    var options = TCPOptions()
    options.connectionsPerAddress = 3
    let side = try Side.listening(options)
    var peers = try (0..<3).map { _ in try RawPeer(to: side.endpoint) }
    try RawPeer.wait("three are there") {
      side.poll()
      return side.establishedCount == 3
    }
    let fourth = try RawPeer(to: side.endpoint)
    try RawPeer.wait("the fourth is hung up on") {
      side.poll()
      return isHungUpOn(fourth)
    }
    #expect(side.establishedCount == 3)
    peers.removeLast().socket.endInOrder()
    try RawPeer.wait("another gets in") {
      side.poll()
      if side.establishedCount == 3 { peers.append(try RawPeer(to: side.endpoint)) }
      side.poll()
      return side.establishedCount == 4
    }
  }

  @Test("IW-37: a client that is turned away by a limit is reset, and asks once")
  func turnedAway() throws {
    var options = TCPOptions()
    options.connectionsPerAddress = 1
    let side = try Side.listening(options)
    let listener = try #require(side.listener as? TCPListener)
    let first = try side.connectRawPeer()
    let client = try Side(TCPAdapter())
    func connect() throws {
      try client.adapter.connect(
        try client.makeQueuePair(), to: listener.address, privateData: [], timeout: .seconds(5),
        events: client.events)
    }
    for turn in 1...3 as ClosedRange<Int> {
      try connect()
      try RawPeer.wait("it is turned away") {
        side.poll()
        client.poll()
        return client.failed.count == turn
      }
      #expect(listener.turnedAwayCount == turn)
      guard case .turnedAway(let words) = client.failed[turn - 1] else {
        throw client.failed[turn - 1]
      }
      #expect(words.contains("try again later"), "\(words)")
    }
    first.socket.endInOrder()
    try RawPeer.wait("the first has gone") {
      side.poll()
      return side.ended.count == 1
    }
    try RawPeer.wait("there is room again") {
      if client.failed.count + client.establishedCount == client.queuePairs.count { try connect() }
      side.poll()
      client.poll()
      return client.establishedCount == 1
    }
  }

  @Test("of those who wait at the door the oldest makes room")
  func door() throws {
    var options = TCPOptions()
    options.startUps = 4
    let side = try Side.listening(options)
    let idle = try (0..<5).map { _ in try RawPeer(to: side.endpoint, startsUp: false) }
    try RawPeer.wait("the oldest is hung up on") {
      side.poll()
      return isHungUpOn(idle[0])
    }
    #expect(!isHungUpOn(idle[4]))
    _ = try RawPeer(to: side.endpoint)
    try RawPeer.wait("a proper peer gets in") {
      side.poll()
      return side.establishedCount == 1
    }
  }

  @Test("IW-37: of an address's peers at the door the oldest makes room, others' stay")
  func doorPerAddress() throws {
    var options = TCPOptions()
    options.startUpsPerAddress = 3
    let side = try Side.listening(options)
    let stranger = try silentPeer(from: "127.0.0.2", to: side.endpoint)
    defer { close(stranger) }
    let idle = try (0..<4).map { _ in try RawPeer(to: side.endpoint, startsUp: false) }
    try RawPeer.wait("the oldest of this address is hung up on") {
      side.poll()
      return isHungUpOn(idle[0])
    }
    // Each of these came behind as many as its address may have, and got in.
    for _ in 0..<3 { _ = try side.connectRawPeer() }
    var byte: UInt8 = 0
    #expect(unsafe recv(stranger, &byte, 1, CInt(MSG_DONTWAIT)) == -1 && errno == EAGAIN)
    #expect((side.listener as? TCPListener)?.turnedAwayCount == 0)
  }

  @Test("IW-37: at an address's last place a peer that says nothing makes room")
  func lastPlace() throws {
    var options = TCPOptions()
    options.connectionsPerAddress = 3
    let side = try Side.listening(options)
    let established = try (0..<2).map { _ in try side.connectRawPeer() }
    let idle = try RawPeer(to: side.endpoint, startsUp: false)
    let late = try side.connectRawPeer()
    #expect(isHungUpOn(idle))
    let tooMany = try RawPeer(to: side.endpoint)
    try RawPeer.wait("with none left that says nothing the next is hung up on") {
      side.poll()
      return isHungUpOn(tooMany)
    }
    #expect(side.establishedCount == 3)
    withExtendedLifetime((established, late)) {}
  }

  /// A connected socket of another address of this machine's; the caller closes it.
  private func silentPeer(from host: String, to endpoint: String) throws -> CInt {
    let number = socket(AF_INET, CInt(SOCK_STREAM.rawValue), 0)
    try #require(number >= 0)
    func place(_ host: String, _ port: UInt16) -> sockaddr_in {
      var place = sockaddr_in()
      place.sin_family = sa_family_t(AF_INET)
      place.sin_port = port.bigEndian
      unsafe inet_pton(AF_INET, host, &place.sin_addr)
      return place
    }
    let size = socklen_t(MemoryLayout<sockaddr_in>.size)
    var own = place(host, 0)
    var peer = place("127.0.0.1", try InternetAddress.split(endpoint).port)
    let isBound = unsafe withUnsafeBytes(of: &own) {
      unsafe bind(number, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), size)
    }
    let isConnected = unsafe withUnsafeBytes(of: &peer) {
      unsafe connect(number, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), size)
    }
    try #require(isBound == 0 && isConnected == 0)
    return number
  }

  @Test(
    "addresses that cannot be are refused with words",
    arguments: [
      "127.0.0.1", "127.0.0.1:", "127.0.0.1:65536", "127.0.0.1:x", ":1", "::1:80", "[127.0.0.1]:80",
      "no.such.host.invalid:80",
    ])
  func badAddresses(_ endpoint: String) throws {
    let side = try Side(TCPAdapter())
    do {
      try side.listen(endpoint)
      Issue.record("listens at \(endpoint)")
    } catch let error as ConnectError {
      guard case .invalidAddress(let words) = error else { throw error }
      #expect(words.contains("expected") && words.contains("got"), "\(words)")
    }
  }

  @Test(
    "what is listened at, and who connects, is told as an address",
    arguments: [
      "127.0.0.1", "[::1]",
    ])
  func addresses(_ host: String) throws {
    let side = try Side.listening(at: "\(host):0")
    #expect(side.endpoint.hasPrefix("\(host):") && !side.endpoint.hasSuffix(":0"))
    side.accepts = false
    let peer = try RawPeer(to: side.endpoint)
    try RawPeer.wait("it asks") {
      side.poll()
      return side.requests.count == 1
    }
    #expect(side.requests[0].peerDescription.hasPrefix("\(host):"))
    side.requests[0].reject(privateData: [1, 2])
    let reply = try peer.takeReply()
    #expect(reply.isRejected && reply.privateData == [1, 2])
  }
}
