import FabricIOProtocol
import FabricStorage
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@Suite("I/O protocol: several connections and paths")
struct PathTests {
  private let name = ConnectionName(epoch: 9, number: 5)
  private let tags = [RequestTag(index: 7, generation: 3), RequestTag(rawValue: 0x7FFE_FFFF)]

  private func golden(_ name: String) throws -> [UInt8] {
    try #require(try goldenVectors("io-protocol.txt")[name])
  }

  @Test("IO-10: a connection's number is the byte behind the length of the host's name")
  func number() throws {
    let opening = HostOpening(
      volumeName: "disk", hostName: "nqn.host", session: .init(high: 1, low: 0x0203), epoch: 9,
      number: 5, depth: 64)
    #expect(try opening.encoded() == golden("second host opening"))
    #expect(try HostOpening(decoding: golden("second host opening")) == opening)
    #expect(opening.connection == name)
  }

  @Test("IO-50: a fence request is these bytes")
  func fence() throws {
    let request = FenceRequest(name, tags: tags)
    #expect(try request.encoded() == golden("fence"))
    #expect(try withView(golden("fence")) { try FenceRequest(decoding: $0) } == request)
    try checkRefusals(of: golden("fence"), [(5, 3), (5, 17), (6, 1), (7, 1)]) {
      _ = try FenceRequest(decoding: $0)
    }
  }

  @Test("IO-52: a fence answer is these bytes")
  func fenced() throws {
    let answer = FenceAnswer(
      name, isRemembered: true,
      outcomes: [
        .init(tag: tags[0], transferredByteCount: 4096, status: .success), .init(tag: tags[1]),
      ])
    #expect(try answer.encoded() == golden("fenced"))
    #expect(try withView(golden("fenced")) { try FenceAnswer(decoding: $0) } == answer)
    try checkRefusals(of: golden("fenced"), [(5, 1), (5, 200), (6, 2), (7, 1), (18, 2), (19, 1)]) {
      _ = try FenceAnswer(decoding: $0)
    }
  }

  @Test("IO-60, IO-61: a path's state, in the answer and in a notice, is one of three")
  func state() throws {
    #expect(try PathStateNotice(.nonOptimised).encoded() == golden("path state"))
    let notice = try withView(golden("path state")) { try PathStateNotice(decoding: $0) }
    #expect(notice.state == .nonOptimised)
    try checkRefusals(of: golden("path state"), [(0, 3), (1, 1), (2, 1), (3, 1)]) {
      _ = try PathStateNotice(decoding: $0)
    }
    let answer = UnitOpening(
      unitName: "u", volume: VolumeIdentifier(high: 1, low: 2), blockByteCount: 4096,
      blockCount: 8, access: .readOnly, maximumTransferByteCount: 4096, depth: 1,
      pathState: .inaccessible)
    var bytes = try answer.encoded()
    #expect(bytes[42] == 2)
    #expect(try UnitOpening(decoding: bytes) == answer)
    bytes[42] = 3
    #expect(throws: ProtocolFault.self) { try UnitOpening(decoding: bytes) }
  }

  @Test("IO-42, IO-43: an address query and its answer are these bytes")
  func addresses() throws {
    #expect(try AddressQuery(2).encoded() == golden("address query"))
    #expect(try withView(golden("address query")) { try AddressQuery(decoding: $0) }.number == 2)
    let entry = AddressEntry(
      .init(FabricAddress(fabric: "tcp", endpoint: "192.0.2.1:4420"), state: .nonOptimised))
    #expect(try entry.encoded() == golden("address entry"))
    #expect(try withView(golden("address entry")) { try AddressEntry(decoding: $0) } == entry)
    try checkRefusals(
      of: golden("address entry"), [(0, 2), (1, 3), (2, 0), (2, 4), (3, 13), (4, 0xFF)]
    ) { _ = try AddressEntry(decoding: $0) }
    let end = AddressEntry(nil)
    #expect(try withView(end.encoded()) { try AddressEntry(decoding: $0) } == end)
  }
}
