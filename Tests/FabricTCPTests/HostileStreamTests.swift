import FabricIWARP
import FabricPlatform
import FabricTCP
import FabricVerbs
import FabricWire
import Testing

/// Peers that break the protocol behind a proper start-up. A second connection lives on beside each.
@Suite("TCP adapter: hostile streams")
struct HostileStreamTests {
  struct Attack: Sendable, CustomTestStringConvertible {
    let testDescription: String
    let cause: TerminateCause
    let segments: @Sendable (MemoryRegion, RemoteKey) -> [[UInt8]]

    init(
      _ words: String, _ cause: TerminateCause,
      _ segments: @escaping @Sendable (MemoryRegion, RemoteKey) -> [[UInt8]]
    ) {
      testDescription = words
      self.cause = cause
      self.segments = segments
    }
  }

  static let attacks: [Attack] = [
    Attack("a steering tag that does not exist", TerminateCause.DDP.invalidKey) {
      [RawPeer.tagged(key: $1.rawValue ^ 1, offset: $0.address, [1])]
    },
    Attack("a write before the region", TerminateCause.DDP.outOfBounds) {
      [RawPeer.tagged(key: $1.rawValue, offset: $0.address - 1, [1, 2])]
    },
    Attack("a write behind the region", TerminateCause.DDP.outOfBounds) {
      [RawPeer.tagged(key: $1.rawValue, offset: $0.address + UInt64($0.byteCount), [1])]
    },
    Attack("an offset that wraps", TerminateCause.DDP.offsetWraps) {
      [RawPeer.tagged(key: $1.rawValue, offset: .max, [1, 2])]
    },
    Attack("a queue that does not exist", TerminateCause.DDP.invalidQueue) { _, _ in
      [RawPeer.untagged(.send, queue: 3, [1])]
    },
    Attack("a send on the queue of read requests", TerminateCause.DDP.invalidQueue) { _, _ in
      [RawPeer.untagged(.send, queue: 1, [1])]
    },
    Attack("a message number that was not due", TerminateCause.DDP.sequenceOutOfRange) { _, _ in
      [RawPeer.untagged(.send, sequence: 2, [1])]
    },
    Attack("message number 0", TerminateCause.DDP.sequenceOutOfRange) { _, _ in
      [RawPeer.untagged(.send, sequence: 0, [1])]
    },
    Attack("a message that begins in its middle", TerminateCause.DDP.invalidOffset) { _, _ in
      [RawPeer.untagged(.send, offset: 4, [1])]
    },
    Attack("a gap in a message", TerminateCause.DDP.invalidOffset) { _, _ in
      [
        RawPeer.untagged(.send, isLast: false, [1, 2]), RawPeer.untagged(.send, offset: 3, [1]),
      ]
    },
    Attack("a message that changes its kind", TerminateCause.RDMAP.unexpectedOpcode) { _, _ in
      [
        RawPeer.untagged(.send, isLast: false, [1, 2]),
        RawPeer.untagged(.sendWithSolicitedEvent, offset: 2, [1]),
      ]
    },
    Attack("a message longer than the receive", TerminateCause.DDP.messageTooLong) { _, _ in
      [RawPeer.untagged(.send, [UInt8](repeating: 7, count: 101))]
    },
    Attack("a message that grows beyond the receive", TerminateCause.DDP.messageTooLong) { _, _ in
      [
        RawPeer.untagged(.send, isLast: false, [UInt8](repeating: 7, count: 100)),
        RawPeer.untagged(.send, offset: 100, [1]),
      ]
    },
    Attack("another DDP version", TerminateCause.DDP.untaggedVersion) { _, _ in
      var bytes = RawPeer.untagged(.send, [1])
      bytes[0] ^= 2
      return [bytes]
    },
    Attack("another DDP version, tagged", TerminateCause.DDP.taggedVersion) {
      var bytes = RawPeer.tagged(key: $1.rawValue, offset: $0.address, [1])
      bytes[0] ^= 2
      return [bytes]
    },
    Attack("another RDMAP version", TerminateCause.RDMAP.version) { _, _ in
      var bytes = RawPeer.untagged(.send, [1])
      bytes[1] ^= 0x80
      return [bytes]
    },
    Attack("an opcode that does not exist", TerminateCause.RDMAP.unexpectedOpcode) { _, _ in
      var bytes = RawPeer.untagged(.send, [1])
      bytes[1] = bytes[1] & 0xf0 | 12
      return [bytes]
    },
    Attack("a write in an untagged segment", TerminateCause.RDMAP.unexpectedOpcode) { _, _ in
      var bytes = RawPeer.untagged(.send, [1])
      bytes[1] &= 0xf0
      return [bytes]
    },
    Attack("a response that nobody asked for", TerminateCause.DDP.invalidKey) {
      [RawPeer.tagged(.readResponse, key: $1.rawValue, offset: $0.address, [1])]
    },
    Attack("a read of a tag that does not exist", TerminateCause.RDMAP.invalidKey) {
      [RawPeer.readRequest(key: $1.rawValue ^ 1, offset: $0.address, 8)]
    },
    Attack("a read behind the region", TerminateCause.RDMAP.outOfBounds) {
      [RawPeer.readRequest(key: $1.rawValue, offset: $0.address + UInt64($0.byteCount) - 4, 8)]
    },
    Attack("a read request of another length", TerminateCause.RDMAP.unspecifiedOperation) { _, _ in
      [RawPeer.untagged(.readRequest, [UInt8](repeating: 0, count: 27))]
    },
    Attack("a read request in pieces", TerminateCause.DDP.invalidOffset) { _, _ in
      [RawPeer.untagged(.readRequest, isLast: false, [UInt8](repeating: 0, count: 28))]
    },
    Attack("a tag that may not be invalidated", TerminateCause.RDMAP.keyNotToBeInvalidated) {
      [RawPeer.untagged(.sendWithInvalidate, key: $1.rawValue, [1])]
    },
    Attack("immediate data of another length", TerminateCause.RDMAP.unspecifiedOperation) { _, _ in
      [RawPeer.untagged(.immediate, [1, 2, 3, 4])]
    },
    Attack("immediate data within a message", TerminateCause.RDMAP.unexpectedOpcode) { _, _ in
      [
        RawPeer.untagged(.send, isLast: false, [1]),
        RawPeer.untagged(.immediate, [0, 0, 0, 0, 0, 0, 0, 1]),
      ]
    },
    Attack("a segment shorter than its header", TerminateCause.RDMAP.unspecifiedOperation) { _, _ in
      [[0x41, 0x43, 0, 0]]
    },
  ]

  @Test("a violation ends its connection with the right words, and no other", arguments: attacks)
  func violation(_ attack: Attack) throws {
    let side = try Side.listening()
    let good = try side.connectRawPeer()
    let bad = try side.connectRawPeer()
    let key = try #require(side.memory.remoteKey)
    let before = side.bytes(0, 4096)
    for segment in attack.segments(side.memory, key) { bad.send(bad.fpdu(segment)) }
    let cause = try bad.terminateCause { side.poll() }
    #expect(cause == attack.cause, "\(String(describing: cause))")
    try RawPeer.wait("the end is told") {
      side.poll()
      return side.ended.count == 1
    }
    #expect(side.bytes(0, 4096) == before)
    guard case .failure(let words) = side.ended[0].reason else {
      Issue.record("\(side.ended[0].reason)")
      return
    }
    #expect(words.contains("\(attack.cause)"), "\(words)")
    good.send(good.fpdu(RawPeer.untagged(.send, [1, 2, 3])))
    try RawPeer.wait("the other connection works") {
      side.poll()
      return side.completions.contains { $0.status == .success && $0.byteCount == 3 }
    }
  }

  @Test("a checksum that does not match ends the connection and places nothing")
  func checksum() throws {
    let side = try Side.listening()
    let peer = try side.connectRawPeer()
    var bytes = peer.fpdu(
      RawPeer.tagged(
        key: side.memory.remoteKey!.rawValue, offset: side.memory.address,
        [UInt8](repeating: 9, count: 500)))
    bytes[100] ^= 1
    peer.send(bytes)
    #expect(try peer.terminateCause { side.poll() } == TerminateCause.MPA.checksum)
    #expect(side.bytes(0, 500).allSatisfy { $0 == 0 })
  }

  @Test("more reads than agreed end the connection")
  func tooManyReads() throws {
    var options = TCPOptions()
    options.readDepth = 2
    let side = try Side.listening(options)
    let peer = try side.connectRawPeer()
    // All in one piece, so that no answer is out before the last of them is seen.
    let key = side.memory.remoteKey!.rawValue
    peer.send(
      (1...20).flatMap { sequence in
        peer.fpdu(
          RawPeer.readRequest(
            key: key, offset: side.memory.address, 1 << 20, sequence: UInt32(sequence)))
      })
    #expect(try peer.terminateCause { side.poll() } == TerminateCause.DDP.noReceive)
  }

  @Test("a stream that comes byte by byte is understood", arguments: [true, false])
  func byteByByte(checksums: Bool) throws {
    var options = TCPOptions()
    options.checksums = checksums ? .always : .never
    let side = try Side.listening(options)
    let peer = try side.connectRawPeer(checksums: checksums)
    let key = side.memory.remoteKey!.rawValue
    let data = (0..<300).map { UInt8(truncatingIfNeeded: $0) }
    let stream =
      peer.fpdu(RawPeer.tagged(key: key, offset: side.memory.address, data))
      + peer.fpdu(RawPeer.untagged(.send, [5, 6, 7]))
    for byte in stream {
      peer.send([byte])
      side.poll()
    }
    try RawPeer.wait("the send arrives") {
      side.poll()
      return side.completions.count == 1
    }
    #expect(side.bytes(0, 300) == data && side.bytes(4096, 3) == [5, 6, 7])
  }

  @Test("a stream that ends within an FPDU is the peer's end")
  func endWithin() throws {
    let side = try Side.listening()
    let peer = try side.connectRawPeer()
    peer.send(Array(peer.fpdu(RawPeer.untagged(.send, [1, 2, 3])).prefix(9)))
    peer.socket.endInOrder()
    try RawPeer.wait("the end is told") {
      side.poll()
      return side.ended.count == 1
    }
    #expect(side.ended[0].reason == .peer)
    #expect(side.completions.allSatisfy { $0.status == .flushed })
  }
}

extension RawPeer {
  static func readRequest(
    key: UInt32, offset: UInt64, _ byteCount: UInt32, sequence: UInt32 = 1
  ) -> [UInt8] {
    var body = [UInt8](repeating: 0, count: ReadRequestHeader.byteCount)
    unsafe body.withUnsafeMutableBytes {
      ReadRequestHeader(
        sinkKey: RemoteKey(rawValue: 1), sinkOffset: 0, byteCount: byteCount,
        sourceKey: RemoteKey(rawValue: key), sourceOffset: offset
      ).write(to: unsafe WireBuffer($0))
    }
    return untagged(.readRequest, sequence: sequence, body)
  }
}
