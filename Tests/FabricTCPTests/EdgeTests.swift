import FabricIWARP
import FabricPlatform
import FabricTCP
import FabricVerbs
import Testing

/// More queue pairs on a completion queue than are asked at every poll: the kernel tells of each
/// thing once.
@Suite("TCP adapter: edges")
struct EdgeTests {
  private func connected(_ count: Int, checksums: Bool = true) throws -> (Side, [RawPeer]) {
    var options = TCPOptions()
    options.checksums = checksums ? .always : .never
    let side = try Side.listening(options)
    return (side, try (0..<count).map { _ in try side.connectRawPeer(checksums: checksums) })
  }

  @Test("an end that comes together with a message is seen")
  func endWithMessage() throws {
    let (side, peers) = try connected(4)
    for turn in 0..<4 {
      let peer = peers[turn]
      peer.send(peer.fpdu(RawPeer.untagged(.send, [1, 2, 3])))
      peer.socket.endInOrder()
      try RawPeer.wait("message and end \(turn) are told") {
        side.poll()
        return side.ended.count == turn + 1
      }
    }
    #expect(side.completions.count { $0.status == .success } == 4)
    #expect(side.ended.allSatisfy { $0.reason == .peer })
  }

  @Test("who sleeps because a socket was full is woken when there is room", arguments: [1, 4])
  func room(_ connectionCount: Int) throws {
    let (side, peers) = try connected(connectionCount, checksums: false)
    let peer = peers[0]
    // This side may send once the peer has.
    peer.send(peer.fpdu(RawPeer.untagged(.send, [1])))
    try RawPeer.wait("the first message is there") {
      side.poll()
      return side.completions.count == 1
    }
    let number = side.completions[0].queuePairNumber
    let queuePair = try #require(side.queuePairs.first { $0.number == number })
    let request = SendRequest(
      id: 7, opcode: .write, elements: ScatterGatherList(side.memory.element), remoteAddress: 4096,
      remoteKey: RemoteKey(rawValue: 1))
    let requests = [SendRequest](repeating: request, count: 30)
    try queuePair.postSend(requests.span)
    let before = side.completions.count
    side.queue.arm()
    side.poll()
    let poller = try Poller()
    try poller.add(try #require(side.queue.descriptor), tag: 1)
    var bytes = [UInt8](repeating: 0, count: 1 << 20)
    // Only the wake-up leads to a poll.
    try RawPeer.wait("all is sent") {
      _ = unsafe bytes.withUnsafeMutableBytes { unsafe peer.socket.receive($0) }
      if poller.wait(timeout: .zero, { _ in }) > 0 {
        side.queue.disarm()
        side.poll()
        side.queue.arm()
        side.poll()
      }
      return side.completions.count == before + 30
    }
  }
}
