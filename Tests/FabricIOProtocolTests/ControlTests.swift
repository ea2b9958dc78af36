import FabricIOProtocol
import FabricStorage
import FabricWire
import TestSupport
import Testing

@Suite("I/O protocol: control calls")
struct ControlTests {
  private func golden(_ name: String) throws -> [UInt8] {
    try #require(try goldenVectors("io-protocol.txt")[name])
  }

  @Test("IO-70, IO-71: a control call and its answer are these bytes")
  func callAndAnswer() throws {
    let call = ControlCall(ControlCode(rawValue: 0x8000_0001), payload: Array("abc".utf8))
    #expect(call.code.isVendors && !ControlCode.sanitise.isVendors)
    #expect(try call.encoded() == golden("control call"))
    #expect(try withView(golden("control call")) { try ControlCall(decoding: $0) } == call)
    try checkRefusals(of: golden("control call"), [(4, 2), (4, 201), (5, 1), (6, 1), (7, 1)]) {
      _ = try ControlCall(decoding: $0)
    }
    let answer = ControlAnswer(errno: 25, result: -1, payload: Array("yz".utf8))
    #expect(try answer.encoded() == golden("control answer"))
    #expect(try withView(golden("control answer")) { try ControlAnswer(decoding: $0) } == answer)
    try checkRefusals(
      of: golden("control answer"), [(1, 16), (3, 0x80), (8, 1), (8, 201), (10, 1), (11, 1)]
    ) { _ = try ControlAnswer(decoding: $0) }
    let longest = ControlCall(.identify, payload: [UInt8](repeating: 1, count: 200))
    #expect(try withView(longest.encoded()) { try ControlCall(decoding: $0) } == longest)
  }

  @Test("IO-72, IO-73: an identity is these bytes, and a volume's health seven numbers")
  func facts() throws {
    let identity = ControlIdentity(
      identifier: VolumeIdentifier(high: 10, low: 11), blockCount: 2048, blockByteCount: 512,
      access: .readWrite, volumeName: "disk", unitName: "nqn.unit")
    #expect(try identity.encoded() == golden("identity"))
    #expect(try ControlIdentity(decoding: golden("identity")) == identity)
    try checkRefusals(
      of: golden("identity"), [(28, 2), (29, 5), (30, 7), (31, 1), (24, 7), (35, 0xFF)]
    ) { view in _ = try ControlIdentity(decoding: view.array) }
    var health = ControlHealth()
    health.readCount = 1
    health.flushFailureCount = 6
    health.secondsInService = 1 << 40
    let bytes = health.encoded()
    #expect(bytes.count == 56 && bytes[0] == 1 && bytes[40] == 6 && bytes[53] == 1)
    #expect(try ControlHealth(decoding: bytes) == health)
    #expect(throws: ProtocolFault.self) { try ControlHealth(decoding: Array(bytes.dropLast())) }
  }
}
