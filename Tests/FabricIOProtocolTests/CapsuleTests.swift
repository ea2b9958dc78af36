import FabricIOProtocol
import FabricStorage
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@Suite("I/O protocol: capsules")
struct CapsuleTests {
  let read = CommandCapsule(
    .read, tag: RequestTag(index: 7, generation: 3), block: 0x1_0000_0001, blockCount: 8,
    byteCount: 32768, remoteAddress: 0x7F00_1234_5000, remoteKey: RemoteKey(rawValue: 0xDEAD_BEEF))

  @Test("IO-1, IO-30: a command is these 64 bytes")
  func commandMatchesGoldenBytes() throws {
    let golden = try #require(try goldenVectors("io-protocol.txt")["read command"])
    #expect(encoded(64) { read.encode(into: $0) } == golden)
    #expect(try withView(golden) { try CommandCapsule(decoding: $0) } == read)
    let write = CommandCapsule(
      .write, tag: RequestTag(index: 0xFFFF, generation: 0x7FFE), block: 5, blockCount: 1,
      byteCount: 512, flags: .forceUnitAccess)
    let bytes = try #require(try goldenVectors("io-protocol.txt")["forced write command"])
    #expect(encoded(64) { write.encode(into: $0) } == bytes)
    #expect(try withView(bytes) { try CommandCapsule(decoding: $0) } == write)
  }

  @Test("IO-30: opcodes are those of the NVM command set, each with its operation")
  func opcodes() {
    #expect(Opcode.allCases.map(\.rawValue) == [0, 1, 2, 4, 5, 8, 9])
    for operation in BlockOperation.allCases {
      #expect(Opcode(operation).operation == operation)
      #expect(Opcode(operation).carriesData == (operation == .write || operation == .compare))
    }
  }

  @Test("IO-4, IO-33: every single wrong byte count, opcode, flag and reserved byte is refused")
  func malformedCommands() throws {
    let good = encoded(64) { read.encode(into: $0) }
    for count in 0..<130 where count != 64 {
      let bytes = Array((good + good + good).prefix(count))
      #expect(
        throws: ProtocolFault.wrongByteCount(record: "a command", expected: 64, found: count)
      ) { try withView(bytes) { try CommandCapsule(decoding: $0) } }
    }
    for opcode in UInt8.min ... .max where Opcode(rawValue: opcode) == nil {
      var bytes = good
      bytes[0] = opcode
      #expect(
        throws: ProtocolFault.invalidField(
          record: "a command", field: "the opcode", found: UInt64(opcode))
      ) { try withView(bytes) { try CommandCapsule(decoding: $0) } }
    }
    for bit in 1..<8 {
      var bytes = good
      bytes[1] = 1 << UInt8(bit)
      #expect(throws: ProtocolFault.self) {
        try withView(bytes) { try CommandCapsule(decoding: $0) }
      }
    }
    for place in [2, 3] + Array(36..<64) {
      var bytes = good
      bytes[place] = 1
      #expect(throws: ProtocolFault.reservedNotZero(record: "a command")) {
        try withView(bytes) { try CommandCapsule(decoding: $0) }
      }
    }
  }

  @Test("IO-34: a response is these 16 bytes")
  func responseMatchesGoldenBytes() throws {
    let response = ResponseCapsule(
      tag: RequestTag(index: 7, generation: 3), status: .mediaReadError,
      transferredByteCount: 4096)
    let golden = try #require(try goldenVectors("io-protocol.txt")["media error response"])
    #expect(encoded(16) { response.encode(into: $0) } == golden)
    #expect(try withView(golden) { try ResponseCapsule(decoding: $0) } == response)
    for count in 0..<40 where count != 16 {
      #expect(throws: ProtocolFault.self) {
        try withView([UInt8](repeating: 0, count: count)) { try ResponseCapsule(decoding: $0) }
      }
    }
    for place in [6, 7, 12, 13, 14, 15] {
      var bytes = golden
      bytes[place] = 0x80
      #expect(throws: ProtocolFault.reservedNotZero(record: "a response")) {
        try withView(bytes) { try ResponseCapsule(decoding: $0) }
      }
    }
  }

  @Test("IO-34: every status has a code of its own; unknown codes read as internalError")
  func statuses() {
    let codes = BlockStatus.allCases.map { StatusCode($0) }
    #expect(Set(codes).count == codes.count)
    for status in BlockStatus.allCases { #expect(StatusCode(status).status == status) }
    for code in UInt16.min ... .max where !codes.contains(StatusCode(rawValue: code)) {
      #expect(StatusCode(rawValue: code).status == .internalError)
    }
  }

  @Test("IO-22: a tag is a slot and a generation")
  func tags() {
    let tag = RequestTag(index: 0x1234, generation: 0xABCD)
    #expect(tag.rawValue == 0x2BCD_1234)
    #expect(tag.index == 0x1234)
    #expect(tag.generation == 0x2BCD)
    #expect(tag.isValid)
    #expect(!RequestTag(rawValue: 0x8000_0000).isValid)
  }
}
