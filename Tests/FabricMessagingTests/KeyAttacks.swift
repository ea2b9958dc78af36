import FabricAuthentication
import FabricVerbs
import FabricWire
import Testing

@testable import FabricMessaging

let alice = key("alice", 1)

func key(_ name: String, _ byte: UInt8) -> PresharedKey {
  do {
    return try PresharedKey(name: name, secret: [UInt8](repeating: byte, count: 32))
  } catch { fatalError("\(error)") }
}

func keyOptions(key: PresharedKey? = nil, keys: [PresharedKey]? = nil) -> ChannelOptions {
  var options = ChannelOptions()
  options.key = key
  options.keys = keys.map { Keyring($0) }
  options.heartbeat = .seconds(60)
  options.greeting = Array("secret volume".utf8)
  return options
}

/// A key's side of what goes before an opening, by hand.
struct HandExchange {
  var transcript: [UInt8] = []
  mutating func note(_ part: some Collection<UInt8>) {
    let count = UInt32(part.count)
    transcript += (0..<4).map { UInt8(truncatingIfNeeded: count >> (8 * $0)) } + part
  }
  func proof(_ step: UInt8, _ key: PresharedKey = alice) -> [UInt8] {
    key.code(of: Array("ChannelFabric key 1".utf8) + [step] + transcript)
  }
}

func keyHeader(_ type: MessageType) -> [UInt8] {
  [type.rawValue] + [UInt8](repeating: 0, count: 11) + [255, 255, 255, 255]
}

func hello(_ name: String = "alice", nonce: UInt8 = 7) -> [UInt8] {
  keyHeader(.hello) + [1, 0, 1, 0, UInt8(name.utf8.count), 0, 0, 0]
    + [UInt8](repeating: nonce, count: 32) + Array(name.utf8)
}

/// An opening as an honest peer's.
func openingMessage(_ type: MessageType, greeting: String = "") -> [UInt8] {
  var bytes = [UInt8](repeating: 0, count: Opening.fixedByteCount + greeting.utf8.count)
  let opening = Opening(
    receiveCount: 16, messageByteCount: 1024, bufferCount: 0, bufferAddress: 0,
    bufferKey: RemoteKey(rawValue: 0), bufferByteCount: 0, takesImmediate: true,
    heartbeatMilliseconds: 60_000, greeting: Array(greeting.utf8))
  unsafe bytes.withUnsafeMutableBytes { raw in
    let buffer = unsafe WireBuffer(raw)
    MessageHeader(type: type).write(to: buffer)
    _ = opening.write(to: buffer)
  }
  return bytes
}

/// What an unproven initiator does once it has the acceptor's challenge.
struct ProofAttack: Sendable, CustomTestStringConvertible {
  let testDescription: String
  /// From the challenge and the opening that is to be proven, the bytes to send.
  let bytes: @Sendable (_ challenge: [UInt8], _ honest: [UInt8], _ proofs: [[UInt8]]) -> [UInt8]

  static let all: [ProofAttack] = [
    ProofAttack(testDescription: "no proof") { _, honest, _ in honest },
    ProofAttack(testDescription: "zeroes") { _, honest, _ in
      honest + [UInt8](repeating: 0, count: 32)
    },
    ProofAttack(testDescription: "the challenge's own proof sent back") { challenge, honest, _ in
      honest + challenge[48...]
    },
    ProofAttack(testDescription: "the challenge's nonce") { challenge, honest, _ in
      honest + challenge[16..<48]
    },
    ProofAttack(testDescription: "the proof of the challenge's direction") { _, honest, proofs in
      honest + proofs[0]
    },
    ProofAttack(testDescription: "the proof of the other direction's opening") {
      _, honest, proofs in
      honest + proofs[2]
    },
    ProofAttack(testDescription: "the right proof cut short") { _, honest, proofs in
      honest + proofs[1].dropLast()
    },
    ProofAttack(testDescription: "the right proof and more") { _, honest, proofs in
      honest + proofs[1] + [0]
    },
    ProofAttack(testDescription: "the right proof of another receive count") { _, honest, proofs in
      changed(honest, at: 20) + proofs[1]
    },
    ProofAttack(testDescription: "the right proof of another buffer key") { _, honest, proofs in
      changed(honest, at: 40) + proofs[1]
    },
    ProofAttack(testDescription: "the right proof of another greeting") { _, honest, proofs in
      changed(honest, at: honest.count - 1) + proofs[1]
    },
    ProofAttack(testDescription: "another key's proof") { _, honest, proofs in honest + proofs[3] },
  ]

  private static func changed(_ bytes: [UInt8], at index: Int) -> [UInt8] {
    var bytes = bytes
    bytes[index] ^= 1
    return bytes
  }
}
