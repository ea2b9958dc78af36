import FabricIWARP
import FabricPlatform
import FabricVerbs
import FabricWire
import Synchronization
import Testing

@testable import FabricTCP

/// How connections end and wait, and what is on the wire, seen from a peer's socket.
@Suite("TCP adapter: ends and waits")
struct EndTests {
  private func connected(_ options: TCPOptions = TCPOptions()) throws -> (Side, RawPeer) {
    let side = try Side.listening(options)
    return (side, try side.connectRawPeer())
  }

  @Test("IW-30: a peer's reset is its death, its end is one in order", arguments: [true, false])
  func reset(isReset: Bool) throws {
    let (side, peer) = try connected()
    peer.send(peer.fpdu(RawPeer.untagged(.send, [1, 2, 3])))
    try RawPeer.wait("the send arrives") {
      side.poll()
      return side.completions.count == 1
    }
    isReset ? peer.socket.reset() : peer.socket.endInOrder()
    try RawPeer.wait("the end is told") {
      side.poll()
      return side.ended.count == 1
    }
    #expect(side.ended[0].reason == (isReset ? .peerDied : .peer))
    #expect(side.completions.allSatisfy { $0.status == .success || $0.status == .flushed })
  }

  @Test("IW-31: who disconnects ends in order, and drops what still comes without a reset")
  func disconnect() throws {
    let (side, peer) = try connected()
    side.queuePairs[0].disconnect()
    var bytes: [UInt8] = []
    try RawPeer.wait("the end in order") {
      side.poll()
      return peer.socket.receive(into: &bytes, limit: 64) == .end
    }
    // More than the socket takes by itself, and no more than goes within the peer's patience.
    var left = 512 << 10
    let piece = [UInt8](repeating: 0, count: 1 << 16)
    try RawPeer.wait("what is sent is taken") {
      side.poll()
      switch peer.socket.send(piece) {
      case .bytes(let count): left -= count
      case .wouldBlock: break
      case let other: try #require(Bool(false), "expected to send, got \(other)")
      }
      return left <= 0
    }
  }

  @Test("An end that nobody asks for any more keeps neither queue pair nor queues nor channel")
  func forgotten() throws {
    weak var events: AnyObject?
    weak var queue: AnyObject?
    weak var queuePair: AnyObject?
    try {
      let (side, peer) = try connected()
      events = side.events
      queue = side.queue
      queuePair = side.queuePairs[0]
      side.queuePairs[0].destroy()
      var completions = [WorkCompletion](repeating: WorkCompletion(), count: 1)
      var space = completions.mutableSpan
      _ = side.queue.poll(into: &space)
      withExtendedLifetime(peer) {}
    }()
    #expect(queuePair == nil)
    #expect(queue == nil)
    #expect(events == nil)
  }

  @Test("Peers with much to say at once have their turns: everything arrives, in order")
  func turns() throws {
    let side = try Side(TCPAdapter(TCPOptions()))
    try side.listen("127.0.0.1:0")
    let peers = try (0..<4).map { _ in try RawPeer(to: side.endpoint) }
    try RawPeer.wait("connected") {
      side.poll()
      return side.establishedCount == peers.count
    }
    for (index, queuePair) in side.queuePairs.enumerated() {
      for id in 0..<40 {
        try side.receive(UInt64(id + 2), on: queuePair, offset: 8192 + index * 4096, 8)
      }
    }
    // Each says 40 things at once; three come with each poll.
    for peer in peers {
      _ = try peer.takeReply()
      var bytes: [UInt8] = []
      for sequence in 1...40 {
        bytes += peer.fpdu(RawPeer.untagged(.send, sequence: UInt32(sequence), [1, 2, 3]))
      }
      peer.send(bytes)
    }
    var last: [UInt32: UInt64] = [:]
    var count = 0
    try RawPeer.wait("all of it arrives") {
      var completions = [WorkCompletion](repeating: WorkCompletion(), count: 3)
      var space = completions.mutableSpan
      let come = side.queue.poll(into: &space)
      for completion in completions[..<come] {
        #expect(completion.status == .success)
        #expect(completion.id > last[completion.queuePairNumber] ?? 0, "in order")
        last[completion.queuePairNumber] = completion.id
      }
      count += come
      return count == 40 * peers.count
    }
    #expect(last.count == peers.count && last.values.allSatisfy { $0 == 40 })
  }

  @Test("IW-31: a peer that does not end its direction is reset after 2 s")
  func patience() throws {
    let (side, peer) = try connected()
    side.queuePairs[0].disconnect()
    let start = MonotonicTime.now
    try RawPeer.wait("it is reset") {
      side.poll()
      if case .failed = peer.socket.send([0]) { return true }
      return false
    }
    #expect(1_900_000_000...9_000_000_000 ~= MonotonicTime.now.nanoseconds(since: start))
  }

  @Test("IW-32: a message without a receive holds the stream, and all arrives once there are some")
  func waits() throws {
    let (side, peer) = try connected()
    let key = try #require(side.memory.remoteKey).rawValue
    let queuePair = try #require(side.queuePairs[0] as? TCPQueuePair)
    // The one receive that there is, one that waits, and a write behind it.
    peer.send(
      peer.fpdu(RawPeer.untagged(.send, sequence: 1, [1]))
        + peer.fpdu(RawPeer.untagged(.send, sequence: 2, [2]))
        + peer.fpdu(RawPeer.tagged(key: key, offset: side.memory.address, [7])))
    try RawPeer.wait("the second waits") {
      side.poll()
      return queuePair.inbound.isStalled
    }
    #expect(side.completions.count == 1 && side.bytes(0, 1) == [0] && side.ended.isEmpty)
    // The stream is held: the sender cannot go on for ever.
    var sent = 0
    let piece = peer.fpdu(
      RawPeer.tagged(
        key: key, offset: side.memory.address + 8192, [UInt8](repeating: 5, count: 60000)))
    while case .bytes(let count) = peer.socket.send(piece), count == piece.count, sent < 1000 {
      side.poll()
      sent += 1
    }
    #expect(sent < 1000, "nothing holds the sender")
    try side.receive(2, on: side.queuePairs[0], offset: 5000, 100)
    try RawPeer.wait("both arrive") {
      side.poll()
      return side.completions.count == 2 && side.bytes(0, 1) == [7]
    }
    #expect(side.bytes(5000, 1) == [2])
  }

  @Test("IW-33, IW-34: a write with immediate is two messages, and is put together again")
  func immediate() throws {
    let (side, peer) = try connected()
    // This side's messages.
    peer.send(peer.fpdu(RawPeer.tagged(key: 0, offset: 0)))
    let request = SendRequest(
      id: 1, opcode: .writeWithImmediate,
      elements: ScatterGatherList(side.memory.element(byteCount: 5)), immediate: 0xfeed_face,
      remoteAddress: 77, remoteKey: RemoteKey(rawValue: 99))
    try side.queuePairs[0].postSend([request].span)
    let write = try #require(try peer.nextSegment { side.poll() })
    #expect(write == RawPeer.tagged(key: 99, offset: 77, side.bytes(0, 5)))
    let immediate = try #require(try peer.nextSegment { side.poll() })
    #expect(
      immediate
        == RawPeer.untagged(.immediate, sequence: 1, [0, 0, 0, 0, 0xfe, 0xed, 0xfa, 0xce]))
    // The peer's: the high half is not looked at, and an empty write is a write.
    for id in 2...3 as ClosedRange<UInt64> { try side.receive(id, on: side.queuePairs[0], 8) }
    let key = try #require(side.memory.remoteKey).rawValue
    side.completions = []
    peer.send(
      peer.fpdu(RawPeer.tagged(key: key, offset: side.memory.address, [1, 2, 3]))
        + peer.fpdu(RawPeer.untagged(.immediate, sequence: 1, [9, 9, 9, 9, 0, 0, 1, 2]))
        + peer.fpdu(RawPeer.untagged(.immediate, sequence: 2, [0, 0, 0, 0, 0, 0, 0, 3]))
        + peer.fpdu(RawPeer.tagged(key: key, offset: side.memory.address))
        + peer.fpdu(RawPeer.untagged(.immediate, sequence: 3, [0, 0, 0, 0, 0, 0, 0, 4])))
    try RawPeer.wait("three receives end") {
      side.poll()
      return side.completions.filter { $0.opcode != .write }.count == 3
    }
    let ends = side.completions.filter { $0.opcode != .write }
    #expect(ends.map(\.immediate) == [0x102, 3, 4])
    #expect(ends.map(\.byteCount) == [3, 0, 0])
    #expect(ends.map(\.opcode) == [.receiveWriteImmediate, .receive, .receiveWriteImmediate])
  }

  @Test(
    "IW-35: between processes of one machine nobody asks for checksums, unless told to",
    arguments: TCPOptions.Checksums.allCases, [true, false])
  func checksums(_ choice: TCPOptions.Checksums, peerWants: Bool) throws {
    var options = TCPOptions()
    options.checksums = choice
    let side = try Side.listening(options)
    let peer = try side.connectRawPeer(checksums: peerWants)
    #expect(peer.reply?.wantsChecksums == (peerWants || choice == .always))
    #expect(try InternetAddress.resolve("127.8.9.1:1")[0].isLoopback)
    #expect(try InternetAddress.resolve("[::1]:1")[0].isLoopback)
    #expect(try !InternetAddress.resolve("192.0.2.1:1")[0].isLoopback)
    #expect(try !InternetAddress.resolve("[2001:db8::1]:1")[0].isLoopback)
  }
}
