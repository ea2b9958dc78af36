import FabricIWARP
import FabricPlatform
import FabricTCP
import FabricVerbs
import FabricWire
import Foundation
import TestSupport
import Testing

/// What a foreign reader of iWARP makes of a real run.
@Suite("TCP adapter: capture", .serialized)
struct CaptureTests {
  /// IW-1, IW-3, IW-10, IW-11, IW-20, IW-21
  @Test(
    "tshark dissects every frame of a real run, finds none malformed and all checksums good",
    .enabled(if: PacketCapture.isPossible, "\(PacketCapture.whyNot)"),
    .untilStuck)
  func everyFrame() throws {
    let endpoint = try FreePort.endpoint()
    let capture = try PacketCapture(port: try InternetAddress.split(endpoint).port) {
      _ = try? StreamSocket.connect(to: InternetAddress.resolve(endpoint)[0])
    }
    try run(endpoint)
    let text = try capture.dissect("iwarp_mpa,iwarp_ddp_rdmap", until: "Terminate (0x7)")
    #expect(!text.contains("Malformed") && !text.contains("Bad CRC"), "\(text.suffix(4000))")
    func count(_ words: String) -> Int { text.ranges(of: words).count }
    #expect(count("(Good CRC32)") == count("DDP header") && count("DDP header") > 12)
    for kind in [
      "Request frame header", "Reply frame header", "Write (0x0)", "Read Request (0x1)",
      "Read Response (0x2)", "Send (0x3)", "Send with Invalidate (0x4)",
      "Send with SE (0x5)", "Send with SE and Invalidate (0x6)", "Terminate (0x7)",
    ] {
      #expect(text.contains(kind), "no \(kind)")
    }
  }

  /// Everything that a connection can carry.
  private func run(_ endpoint: String) throws {
    var options = TCPOptions()
    options.checksums = .always
    let server = try Side(TCPAdapter(options))
    let client = try Side(TCPAdapter(options))
    try server.listen(endpoint)
    let queuePair = try client.makeQueuePair()
    try client.adapter.connect(
      queuePair, to: FabricAddress(fabric: "tcp", endpoint: endpoint), privateData: [1, 2, 3],
      timeout: .seconds(5), events: client.events)
    try RawPeer.wait("connected") {
      server.poll()
      client.poll()
      return client.establishedCount == 1 && server.establishedCount == 1
    }
    let target = server.memory
    func request(_ opcode: SendOpcode, _ byteCount: Int) -> SendRequest {
      SendRequest(
        id: 1, opcode: opcode,
        elements: ScatterGatherList(client.memory.element(byteCount: byteCount)),
        immediate: 0xfeed, remoteAddress: target.address + 8192, remoteKey: target.remoteKey!)
    }
    try server.receive(2, on: server.queuePairs[0], 100)
    let requests = [
      request(.send, 64), request(.write, 100_000), request(.read, 5000),
      request(.writeWithImmediate, 4096),
    ]
    try queuePair.postSend(requests.span)
    try RawPeer.wait("all is carried out") {
      server.poll()
      client.poll()
      return client.completions.count == 4 && server.completions.count == 2
    }
    try run(raw: server, endpoint)
  }

  /// What this release receives and does not send.
  private func run(raw server: Side, _ endpoint: String) throws {
    let peer = try RawPeer(to: endpoint)
    try RawPeer.wait("connected") {
      server.poll()
      return server.establishedCount == 2
    }
    _ = try peer.takeReply()
    let queuePair = server.queuePairs[1]
    var keys: [UInt32] = []
    for _ in 0..<2 {
      keys.append(
        try server.domain.grant(
          .remoteWrite, to: server.memory, offset: 0, byteCount: 64, only: queuePair
        ).rawValue)
      try server.receive(3, on: queuePair, 64)
    }
    let before = server.completions.count
    peer.send(
      peer.fpdu(RawPeer.untagged(.sendWithSolicitedEvent, sequence: 1, [1, 2, 3, 4]))
        + peer.fpdu(RawPeer.untagged(.sendWithInvalidate, sequence: 2, key: keys[0], [5]))
        + peer.fpdu(
          RawPeer.untagged(.sendWithSolicitedEventAndInvalidate, sequence: 3, key: keys[1], [6])))
    try RawPeer.wait("the sends arrive") {
      server.poll()
      return server.completions.count == before + 3
    }
    // An invalidated key opens nothing, and the terminate says so.
    peer.send(peer.fpdu(RawPeer.tagged(key: keys[0], offset: server.memory.address, [1])))
    #expect(try peer.terminateCause { server.poll() } == TerminateCause.DDP.invalidKey)
  }
}
