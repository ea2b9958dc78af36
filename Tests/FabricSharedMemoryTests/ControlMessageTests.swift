import FabricWire
import Foundation
import TestSupport
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: control messages")
struct ControlMessageTests {
  /// A ring of 64 lines behind the 4096 bytes of words.
  private static func opening(
    _ address: UInt64, isDirect: Bool, number: UInt32, _ privateData: String
  ) -> ControlMessage.Opening {
    ControlMessage.Opening(
      segmentAddress: address, segmentByteCount: 8192, lineCount: 64, isDirect: isDirect,
      queuePairNumber: number, privateData: Array(privateData.utf8))
  }

  @Test("SM-41, SM-42: control messages are these bytes")
  func golden() throws {
    let messages: [String: ControlMessage] = [
      "hello": .hello(Self.opening(0x1000_1234_5000, isDirect: true, number: 7, "abc")),
      "welcome": .welcome(Self.opening(0x2000_0000_0000, isDirect: false, number: 8, "")),
      "reject": .reject(Array("no".utf8)),
      "segment": .segment(address: 1 << 44, byteCount: 0x1_4000_0000, use: .writable),
      "withdraw": .withdraw(address: 1 << 44),
      "goodbye": .goodbye, "doorbell": .doorbell,
    ]
    let vectors = try goldenVectors("shared-memory.txt")
    #expect(Set(vectors.keys) == Set(messages.keys))
    for (name, message) in messages {
      let bytes = try #require(vectors[name])
      #expect(message.bytes == bytes, "\(name)")
      #expect(read(bytes) == message, "\(name)")
      // Nothing shorter is one, and nothing longer.
      for count in 0..<bytes.count { #expect(read(Array(bytes[..<count])) == nil, "\(name)") }
      #expect(read(bytes + [0]) == nil, "\(name)")
    }
  }

  private func read(_ bytes: [UInt8]) -> ControlMessage? {
    // A byte behind, so that there is an address for no bytes at all.
    unsafe (bytes + [0]).withUnsafeBytes { raw in
      try? ControlMessage(unsafe WireView(raw.baseAddress!, byteCount: bytes.count))
    }
  }
}
