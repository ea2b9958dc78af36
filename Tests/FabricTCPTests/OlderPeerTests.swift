import FabricIWARP
import FabricPlatform
import FabricTCP
import FabricVerbs
import FabricWire
import Testing

/// Responders that know RFC 5044 alone.
@Suite("TCP adapter: older peers")
struct OlderPeerTests {
  /// A responder on a bare socket.
  private final class Responder {
    let listener: StreamSocket
    var sockets: [(socket: StreamSocket, bytes: [UInt8])] = []
    var revisions: [UInt8] = []

    init() throws {
      listener = try StreamSocket.listen(at: InternetAddress.resolve("127.0.0.1:0")[0])
    }

    var address: FabricAddress {
      FabricAddress(fabric: "tcp", endpoint: listener.ownAddress?.description ?? "")
    }

    /// Hangs up on requests of a higher revision than `highest`, and accepts others.
    func turn(highest: UInt8) throws {
      if let (socket, _) = try listener.accept() { sockets.append((socket, [])) }
      guard let socket = sockets.last?.socket, var bytes = sockets.last?.bytes else { return }
      _ = socket.receive(into: &bytes, limit: 1024)
      sockets[sockets.count - 1].bytes = bytes
      guard revisions.count < sockets.count, !bytes.isEmpty else { return }
      let request = try unsafe bytes.withUnsafeBytes { raw in
        try StartFrame.read(.request, from: unsafe WireView(raw))?.frame
      }
      guard let request else { return }
      revisions.append(request.revision)
      guard request.revision <= highest else { return socket.endInOrder() }
      var reply = StartFrame(.reply)
      reply.revision = request.revision
      reply.privateData = [4, 5]
      _ = socket.send(reply.bytes)
    }
  }

  private func connect(_ responder: Responder) throws -> Side {
    let side = try Side(TCPAdapter())
    try side.adapter.connect(
      try side.makeQueuePair(), to: responder.address, privateData: [1, 2, 3],
      timeout: .seconds(5), events: side.events)
    return side
  }

  @Test("IW-36: a responder that hangs up on revision 2 is asked again in 1, and is spoken with")
  func older() throws {
    let responder = try Responder()
    let side = try connect(responder)
    try RawPeer.wait("connected") {
      try responder.turn(highest: 1)
      side.poll()
      return side.establishedCount == 1
    }
    #expect(responder.revisions == [2, 1] && side.failed.isEmpty)
    let request = SendRequest(
      id: 1, opcode: .send, elements: ScatterGatherList(side.memory.element(byteCount: 3)))
    try side.queuePairs[0].postSend([request].span)
    // Behind the request of 20 bytes and its private data: an FPDU of 2 + 18 + 3 + 1 + 4 bytes.
    try RawPeer.wait("the first message") {
      try responder.turn(highest: 1)
      side.poll()
      return responder.sockets[1].bytes.count == 20 + 3 + 28
    }
  }

  @Test("IW-36: one that hangs up on both is unreachable, after two attempts and no more")
  func neither() throws {
    let responder = try Responder()
    let side = try connect(responder)
    try RawPeer.wait("it gives up") {
      try responder.turn(highest: 0)
      side.poll()
      return side.failed.count == 1
    }
    guard case .unreachable(let words) = side.failed[0] else {
      throw side.failed[0]
    }
    #expect(words.contains("hung up without an answer"))
    #expect(responder.revisions == [2, 1])
    try responder.turn(highest: 0)
    #expect(responder.sockets.count == 2)
  }

  @Test("IW-36: one that knows revision 2 is asked once")
  func current() throws {
    var options = TCPOptions()
    options.isEnhanced = false
    let server = try Side(TCPAdapter(options))
    try server.listen("127.0.0.1:0")
    let side = try Side(TCPAdapter())
    try side.adapter.connect(
      try side.makeQueuePair(),
      to: FabricAddress(fabric: "tcp", endpoint: server.endpoint), privateData: [],
      timeout: .seconds(5), events: side.events)
    try RawPeer.wait("connected") {
      server.poll()
      side.poll()
      return side.establishedCount == 1
    }
    #expect(server.queuePairs.count == 1)
  }
}
