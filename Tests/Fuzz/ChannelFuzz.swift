import FabricCompletion
import FabricSimulated
import FabricVerbs
import FabricWire

@testable import FabricMessaging

/// A channel whose peer does as the input says, over a simulated fabric. Offset 0: bits 0 the peer
/// does not begin with an honest opening, 1 the channel's user keeps buffers, 2 it answers, 3 keys
/// are asked for, 4 it is the channel that connects. Then steps of the peer.
func fuzzChannel(_ input: FuzzInput) {
  var input = input
  let flags = input.byte()
  let bench = unsafe flags & 8 == 0 ? ChannelBench.withoutKeys : ChannelBench.withKeys
  bench.run(flags, &input)
}

/// A key whose proofs are easily made: 32 times the same byte.
private struct EasyKey: ChannelKey, ChannelKeyring {
  static let proof = [UInt8](repeating: 7, count: KeyExchange.proofByteCount)
  let name = "easy"

  func code(of bytes: [UInt8]) -> [UInt8] { Self.proof }
  func isCode(_ code: [UInt8], of bytes: [UInt8]) -> Bool { code == Self.proof }
  func key(named name: String) -> any ChannelKey { self }
}

/// An endpoint that listens and connects, and an adapter for its peers, one after another.
private final class ChannelBench {
  nonisolated(unsafe) static let withoutKeys = ChannelBench(key: nil)
  nonisolated(unsafe) static let withKeys = ChannelBench(key: EasyKey())

  private let network = SimulatedNetwork(seed: 1)
  private let service: CompletionService
  private let endpoint: ChannelEndpoint
  private let options: ChannelOptions
  private let user = ChannelUser()
  private let peer: FuzzedPeer
  private let address = FabricAddress(fabric: "sim", endpoint: "channel")

  private init(key: EasyKey?) {
    var options = ChannelOptions()
    options.receiveCount = 8
    options.sendCount = 8
    options.bufferCount = 2
    options.bufferByteCount = 4096
    options.key = key
    options.keys = key
    self.options = options
    do {
      service = try CompletionService()
      endpoint = try ChannelEndpoint(
        adapter: network.makeAdapter(name: "channel"), service: service)
      peer = try FuzzedPeer(network.makeAdapter(name: "peer"))
      _ = try endpoint.listen(at: address, options: options) { [user] greeting, _ in
        greeting.first == 0xff
          ? .reject(reason: "not you") : .accept(greeting: [1], handler: user)
      }
    } catch {
      fatalError("\(error)")
    }
  }

  func run(_ flags: UInt8, _ input: inout FuzzInput) {
    user.keepsBuffers = flags & 2 != 0
    user.answers = flags & 4 != 0
    let connects = flags & 16 != 0
    var completions = 0
    if connects {
      endpoint.connect(to: peer.address, options: options, handler: user) { _ in completions += 1 }
    }
    let link = peer.link(to: connects ? nil : address) {
      service.turn()
      network.step()
    }
    if flags & 1 == 0 { beginHonestly(link, connects: connects, greeting: input.byte()) }
    settle()
    while !input.isEmpty { step(link, &input) }
    settle()
    link.end()
    for _ in 0..<1000 where endpoint.channelCount > 0 { settle() }
    require(endpoint.channelCount == 0, "a channel outlives its peer")
    require(completions == (connects ? 1 : 0), "\(completions) ends of one opening")
  }

  /// Says what an honest peer says until a channel is open.
  private func beginHonestly(_ link: FuzzedPeer.Link, connects: Bool, greeting: UInt8) {
    let proof = options.key == nil ? [] : EasyKey.proof
    let nonce = [UInt8](repeating: 1, count: KeyExchange.nonceByteCount)
    if let key = options.key {
      let hello = KeyHello(name: key.name, nonce: nonce)
      link.send(
        connects
          ? message(.challenge, byteCount: 48) { $0.copy(nonce, at: 16) } + proof
          : message(.hello, byteCount: KeyHello.fixedByteCount + key.name.utf8.count) {
            _ = hello.write(to: $0)
          })
      settle()
    }
    let opening = Opening(
      receiveCount: 8, messageByteCount: 256, bufferCount: 0, bufferAddress: 0,
      bufferKey: RemoteKey(rawValue: 0), bufferByteCount: 0, takesImmediate: true,
      heartbeatMilliseconds: 60_000, greeting: [greeting])
    link.send(
      message(connects ? .opened : .open, byteCount: Opening.fixedByteCount + 1) {
        _ = opening.write(to: $0)
      } + proof)
  }

  private func message(
    _ type: MessageType, byteCount: Int, _ body: (WireBuffer) -> Void
  ) -> [UInt8] {
    written(byteCount) { buffer in
      buffer.clear()
      MessageHeader(type: type).write(to: buffer)
      body(buffer)
    }
  }

  private func step(_ link: FuzzedPeer.Link, _ input: inout FuzzInput) {
    switch input.number(below: 6) {
    case 0: link.send(input.bytes(input.number(below: 256)))
    case 1:
      // A header whose fields are small, so that more of them mean something.
      let type = 1 + UInt8(input.number(below: 10))
      let header: [UInt8] = [type, input.byte() & 1, 0, 0, 1, 0, 0, 0]
      let counts: [UInt8] = [input.byte(), 0, 0, 0, input.byte(), 0, 255, 255]
      link.send(header + counts + input.bytes(input.number(below: 64)))
    case 2:
      let front = input.bytes(input.number(below: 128))
      let immediate = withExactView(input.bytes(4) + [0, 0, 0, 0]) { $0.uint32(at: 0) }
      link.transfer(front, immediate: immediate, offset: UInt64(input.byte()))
    case 3:
      let front = [4, 0, 0, 0, 1, 0, 0, 0, input.byte(), 0, 0, 0, 255, 255, 255, 255]
      let buffer = UInt32(input.byte() & 3)
      link.transfer(
        front + input.bytes(buffer == 3 ? 7 : 0), immediate: 16 << 16 | buffer, offset: 0)
    case 4: settle()
    default: user.returnOne()
    }
  }

  /// Lets everything happen that will.
  private func settle() {
    repeat { service.turn() } while network.step()
    service.turn()
  }
}
