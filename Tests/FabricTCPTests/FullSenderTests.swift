import FabricPlatform
import FabricVerbs
import Testing

/// A peer that does not read for a while.
@Suite("TCP adapter: a sender whose socket is full")
struct FullSenderTests {
  @Test("IW-40: posts wait in the send queue, are refused beyond it, and go when the peer reads")
  func full() throws {
    let side = try Side.listening()
    let peer = try side.connectRawPeer(checksums: false)
    // This side may send once the peer has.
    peer.send(peer.fpdu(RawPeer.tagged(key: 0, offset: 0)))
    let queuePair = side.queuePairs[0]
    func post(_ id: UInt64) throws -> PostError? {
      let request = SendRequest(
        id: id, opcode: .send,
        elements: ScatterGatherList(side.memory.element(byteCount: 64 << 10)))
      do {
        try queuePair.postSend([request].span)
        return nil
      } catch { return error }
    }
    var postedCount: UInt64 = 0
    var idleCount = 0
    // Until the kernel has taken nothing for a while.
    while idleCount < 200 {
      let before = side.completions.count
      if let refusal = try post(postedCount + 1) {
        #expect(refusal.reason == .queueFull && refusal.acceptedCount == 0)
        idleCount += 1
        side.poll()
        if side.completions.count > before { idleCount = 0 }
        SystemThread.yield()
      } else {
        postedCount += 1
      }
    }
    #expect(Int(postedCount) == side.completions.count + 64)
    // All of it arrives, in order, as the peer reads: two segments for each, behind 20 bytes of
    // length and header, with a checksum that says nothing.
    let stride = 20 + (32 << 10) + 4
    let count = 2 * Int(postedCount) * stride
    try unsafe withUnsafeTemporaryAllocation(byteCount: count, alignment: 16) { room in
      var filled = 0
      try RawPeer.wait("all of it") {
        side.poll()
        let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: room[filled...])
        if case .bytes(let received) = unsafe peer.socket.receive(rest) { filled += received }
        return filled == count
      }
      for index in 0..<2 * Int(postedCount) {
        let sequence = unsafe room.loadUnaligned(
          fromByteOffset: index * stride + 12, as: UInt32.self)
        #expect(UInt32(bigEndian: sequence) == UInt32(index / 2 + 1))
      }
    }
    try RawPeer.wait("all sends have ended") {
      side.poll()
      return side.completions.count == Int(postedCount)
    }
    #expect(side.completions.allSatisfy { $0.status == .success } && side.ended.isEmpty)
  }
}
