import FabricCompletion
import FabricPlatform
import FabricSharedMemory
import FabricVerbs
import FabricWire
import Testing

@testable import FabricMessaging

/// What a peer sends over its queue pair after an orderly opening, and words of the reason for which
/// its channel must end; with nil it must stay.
struct ChannelAttack: Sendable, CustomTestStringConvertible {
  let testDescription: String
  let words: String?
  let launch: @Sendable (RawPeer) throws -> Void

  init(_ name: String, _ words: String?, _ launch: @escaping @Sendable (RawPeer) throws -> Void) {
    testDescription = name
    self.words = words
    self.launch = launch
  }

  static let all: [ChannelAttack] = [
    ChannelAttack("an empty message", "malformed header") { try $0.send([]) },
    ChannelAttack("a cut header", "malformed header") { try $0.send(Array(message(4)[..<15])) },
    ChannelAttack("an unknown type", "malformed header") { try $0.send(message(11)) },
    ChannelAttack("two buffers", "malformed header") { try $0.send(message(4, buffers: 2)) },
    ChannelAttack("a longer message than a receive", "lengthError") {
      try $0.send(message(4) + [UInt8](repeating: 0, count: 1000))
    },
    ChannelAttack("more reposted than was sent", "malformed header") {
      try $0.send(message(4, reposted: 100_000))
    },
    ChannelAttack("a buffer back that was never taken", "malformed header") {
      try $0.send(message(4, returned: 3))
    },
    ChannelAttack("a short list of buffers", "a short list") { try $0.send(message(7)) },
    ChannelAttack("a list longer than its message", "longer than its message") {
      try $0.send(message(7) + [255, 255, 255, 255, 255, 255, 255, 255, 0, 0])
    },
    ChannelAttack("a list of what it does not have", "does not have") {
      try $0.send(message(7) + [1, 0, 0, 0, 0, 0, 0, 0, 3, 0])
    },
    ChannelAttack("a buffer's name cut short", "within its buffer's name") {
      try $0.send(message(4, buffers: 1) + [0, 0])
    },
    ChannelAttack("a buffer that does not exist", "stale buffer") {
      try $0.send(message(4, buffers: 1) + [99, 0, 0, 0, 0, 0, 0, 0])
    },
    ChannelAttack("more bytes than a buffer has", "stale buffer") {
      try $0.send(message(4, buffers: 1) + [0, 0, 0, 0, 255, 255, 255, 255])
    },
    ChannelAttack("a buffer filled twice", "stale buffer") {
      for _ in 0..<2 { try $0.send(message(4, buffers: 1) + [1, 0, 0, 0, 8, 0, 0, 0]) }
    },
    ChannelAttack("a second opening", "out of place") { try $0.open() },
    ChannelAttack("an answer that nobody waits for", "out of place") { try $0.send(message(2)) },
    ChannelAttack("a refusal that nobody waits for", "out of place") { try $0.send(message(3)) },
    ChannelAttack("a transfer into no buffer", "stale buffer") {
      try $0.transfer(message(4), immediate: 16 << 16 | 99)
    },
    ChannelAttack("a transfer of less than a header", "do not fit") {
      try $0.transfer(message(4), immediate: 8 << 16)
    },
    ChannelAttack("a transfer longer than the headroom", "do not fit") {
      try $0.transfer(message(4), immediate: 0x7fff << 16)
    },
    ChannelAttack("a transfer shorter than it says", "do not fit") {
      try $0.transfer(message(4), immediate: 100 << 16)
    },
    ChannelAttack("a transfer of something else", "malformed header") {
      try $0.transfer(message(8), immediate: 16 << 16)
    },
    ChannelAttack("a transfer with bad credit", "malformed header") {
      try $0.transfer(message(4, reposted: 77), immediate: 16 << 16)
    },
    ChannelAttack("a transfer filled twice", "stale buffer") {
      for _ in 0..<2 { try $0.transfer(message(4), immediate: 16 << 16) }
    },
    ChannelAttack("a transfer into other memory", "refused") {
      try $0.transfer(message(4), immediate: 16 << 16, offset: 1 << 40)
    },
    ChannelAttack("far more messages than it has credit for", nil) { peer in
      for _ in 0..<500 { try peer.send(message(4)) }
    },
  ]
}

/// A message without a body, by hand.
private func message(
  _ type: UInt8, buffers: UInt8 = 0, reposted: UInt32 = 0, returned: UInt16 = 0xffff
) -> [UInt8] {
  let counter = (0..<4).map { UInt8(truncatingIfNeeded: reposted >> (8 * $0)) }
  let back = [UInt8(truncatingIfNeeded: returned), UInt8(truncatingIfNeeded: returned >> 8)]
  return [type, buffers, 0, 0, 0, 0, 0, 0] + counter + back + [255, 255]
}

@Suite("Messaging: hostile peers", .serialized)
struct HostileChannelTests {
  @Test("MS-12: a hostile peer ends its own channel only", arguments: ChannelAttack.all)
  func attack(_ attack: ChannelAttack) throws {
    // The pair's own channel is the bystander.
    let pair = try Pair(hostileOptions)
    let bystander = try pair.opened()
    pair.nextHandler = Keeper()
    let peer = try RawPeer(pair)
    try peer.open()
    try pair.run {
      peer.poll()
      return peer.buffers != nil
    }
    let keeper = try #require(pair.nextHandler as? Keeper)
    try attack.launch(peer)
    if let words = attack.words {
      try pair.run {
        peer.poll()
        return keeper.closed != nil
      }
      #expect("\(keeper.closed!)".contains(words), "\(keeper.closed!)")
    } else {
      try pair.run {
        peer.poll()
        return keeper.count == 500
      }
      #expect(keeper.closed == nil)
    }
    view(Array("still here".utf8)) { words in
      let refusal = bystander.send(kind: 5, tag: 6, payload: words)
      #expect(refusal == nil)
    }
    bystander.flush()
    try pair.run { pair.serverHandler.messages.count == 1 }
    #expect(pair.serverHandler.closed == nil && pair.clientHandler.closed == nil)
    peer.close()
  }

  @Test("MS-4: before the opening nothing but the opening is accepted")
  func beforeTheOpening() throws {
    let pair = try Pair(hostileOptions)
    _ = try pair.opened()
    for type in [2, 3, 4, 5, 6, 7, 8, 10] as [UInt8] {
      let peer = try RawPeer(pair)
      #expect(pair.server.channelCount == 2)
      try peer.send(message(type))
      try pair.run {
        peer.poll()
        return pair.server.channelCount == 1 && peer.isOver
      }
      peer.close()
    }
  }

  @Test("MS-4: limits out of range are refused in words, and the line is cut")
  func badLimits() throws {
    let pair = try Pair(hostileOptions)
    _ = try pair.opened()
    let peer = try RawPeer(pair)
    try peer.open { $0.receiveCount = 7 }
    try pair.run {
      peer.poll()
      return peer.refusal != nil
    }
    #expect(peer.refusal == "the peer's opening has limits out of range")
    // It does not hang up; the other side does.
    try pair.run {
      peer.poll()
      return pair.server.channelCount == 1 && peer.isOver
    }
    peer.close()
  }

  @Test("MS-4: an opening that does not come is given up after 5 s, on both sides")
  func noOpening() throws {
    let pair = try Pair(hostileOptions)
    _ = try pair.opened()
    let start = MonotonicTime.now
    let silentInitiator = try RawPeer(pair)
    let silentAcceptor = try RawAcceptor()
    var result: Result<Channel, ChannelOpenError>?
    pair.client.connect(
      to: silentAcceptor.address, options: hostileOptions, handler: Recorder()
    ) { result = $0 }
    try pair.run {
      silentInitiator.poll()
      silentAcceptor.pollEvents()
      return result != nil && pair.server.channelCount == 1 && silentInitiator.isOver
    }
    #expect(MonotonicTime.now >= start + .seconds(5))
    guard case .failure(.timedOut)? = result else {
      Issue.record("expected a time-out, got \(String(describing: result))")
      return
    }
    silentInitiator.close()
    silentAcceptor.close()
  }

  @Test("MS-4: peers that connect and open nothing have so many places, and an honest one goes on")
  func manyWithoutOpening() throws {
    let pair = try Pair(hostileOptions)
    let honest = try pair.opened()
    var silent: [RawPeer] = []
    for _ in 0..<ChannelEndpoint.openingLimit { silent.append(try RawPeer(pair)) }
    #expect(pair.server.channelCount == 1 + ChannelEndpoint.openingLimit)
    // One more is let in, and the first of them is cut off.
    var result: Result<Channel, ChannelOpenError>?
    pair.client.connect(to: pair.address, options: hostileOptions, handler: Recorder()) {
      result = $0
    }
    try pair.run {
      silent[0].pollEvents()
      return result != nil && silent[0].isOver
    }
    #expect(try result?.get().isOpen == true)
    #expect(honest.isOpen)
    try pair.run { pair.server.channelCount == 1 + ChannelEndpoint.openingLimit }
    for peer in silent {
      peer.pollEvents()
      #expect(peer.isOver == (peer === silent[0]))
    }
    for peer in silent { peer.close() }
  }

  @Test("MS-10: who closes waits at most 1 s for a peer that does not hang up")
  func peerStays() throws {
    let pair = try Pair(hostileOptions)
    _ = try pair.opened()
    let first = pair.accepted
    pair.nextHandler = Keeper()
    let peer = try RawPeer(pair)
    try peer.open()
    try pair.run { pair.accepted !== first }
    let keeper = try #require(pair.nextHandler as? Keeper)
    let start = MonotonicTime.now
    pair.accepted?.close()
    try pair.run {
      peer.poll()
      return keeper.closed != nil
    }
    #expect(keeper.closed == .local)
    #expect(MonotonicTime.now >= start + .seconds(1))
    peer.close()
  }
}

/// A hostile peer is not to be taken for a silent one.
private var hostileOptions: ChannelOptions {
  var options = ChannelOptions()
  options.heartbeat = .seconds(60)
  options.bufferCount = 4
  options.bufferByteCount = 4096
  return options
}

/// Keeps the buffers that it gets.
private final class Keeper: ChannelHandler {
  var count = 0
  var closed: ChannelCloseReason?
  func channel(_ channel: Channel, received messages: Span<IncomingMessage>) {
    count += messages.count
  }
  func channel(_ channel: Channel, closed reason: ChannelCloseReason) { closed = reason }
}
