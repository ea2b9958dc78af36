import FabricIOProtocol
import FabricStorage
import FabricWire
import TestSupport
import Testing

@Suite("I/O protocol: openings and discovery")
struct OpeningTests {
  let host = HostOpening(
    volumeName: "disk", hostName: "nqn.host", session: .init(high: 1, low: 0x0203),
    epoch: 9, access: .readWrite, depth: 64)
  let unit = UnitOpening(
    unitName: "nqn.unit", volume: VolumeIdentifier(high: 0xA, low: 0xB), blockByteCount: 4096,
    blockCount: 1 << 40, access: .readOnly, maximumTransferByteCount: 131072, depth: 32)
  let entry = VolumeEntry(
    .init(
      name: "disk", identifier: VolumeIdentifier(high: 0xA, low: 0xB), blockByteCount: 512,
      blockCount: 2048, access: .readWrite))

  @Test("IO-2, IO-10: a host's opening is these bytes")
  func hostOpening() throws {
    let golden = try #require(try goldenVectors("io-protocol.txt")["host opening"])
    #expect(try host.encoded() == golden)
    #expect(try HostOpening(decoding: golden) == host)
  }

  @Test("IO-15: a unit's answer is these bytes")
  func unitOpening() throws {
    let golden = try #require(try goldenVectors("io-protocol.txt")["unit opening"])
    #expect(try unit.encoded() == golden)
    #expect(try UnitOpening(decoding: golden) == unit)
  }

  @Test("IO-40, IO-41: queries and entries are these bytes")
  func discovery() throws {
    let golden = try #require(try goldenVectors("io-protocol.txt")["volume entry"])
    #expect(try entry.encoded() == golden)
    #expect(try withView(golden) { try VolumeEntry(decoding: $0) } == entry)
    let end = try VolumeEntry(nil).encoded()
    #expect(end == [UInt8](repeating: 0, count: 32))
    #expect(try withView(end) { try VolumeEntry(decoding: $0) }.volume == nil)
    for name in ["", "disk", String(repeating: "x", count: 64)] {
      let query = VolumeQuery(after: name)
      #expect(try withView(query.encoded()) { try VolumeQuery(decoding: $0) } == query)
    }
    #expect(throws: ProtocolFault.self) {
      try withView([UInt8](repeating: 0x78, count: 65)) { try VolumeQuery(decoding: $0) }
    }
    #expect(throws: ProtocolFault.self) {
      try withView([0xFF]) { try VolumeQuery(decoding: $0) }
    }
  }

  @Test("IO-11: an empty volume name opens a discovery channel; the answer's sizes are 0")
  func discoveryOpening() throws {
    var opening = host
    opening.volumeName = ""
    #expect(try HostOpening(decoding: opening.encoded()) == opening)
    let answer = UnitOpening(
      unitName: "u", volume: VolumeIdentifier(high: 0, low: 0), blockByteCount: 0, blockCount: 0,
      access: .readOnly, maximumTransferByteCount: 0, depth: 1)
    #expect(try UnitOpening(decoding: answer.encoded()) == answer)
  }

  @Test("IO-3: another version is refused with both numbers")
  func versions() throws {
    var bytes = try host.encoded()
    bytes[4] = 2
    #expect(throws: ProtocolFault.versionMismatch(expected: 1, found: 2)) {
      try HostOpening(decoding: bytes)
    }
    // Whatever the other version's layout is: only its first six bytes are known.
    #expect(throws: ProtocolFault.versionMismatch(expected: 1, found: 2)) {
      try UnitOpening(decoding: Array(bytes.prefix(6)))
    }
    bytes[0] = 0
    #expect(throws: ProtocolFault.foreignOpening(found: 0x4F49_4600)) {
      try HostOpening(decoding: bytes)
    }
  }

  @Test("IO-12: names that are too long are refused on both sides")
  func names() throws {
    var opening = host
    opening.volumeName = String(repeating: "v", count: 65)
    #expect(throws: ProtocolFault.self) { try opening.encoded() }
    opening.volumeName = String(repeating: "v", count: 48)
    opening.hostName = String(repeating: "h", count: 48)
    #expect(try opening.encoded().count == 128)
    #expect(try HostOpening(decoding: opening.encoded()) == opening)
    opening.hostName += "h"
    #expect(throws: ProtocolFault.self) { try opening.encoded() }
    opening.hostName = ""
    #expect(throws: ProtocolFault.self) { try opening.encoded() }
  }

  @Test("IO-4: sizes that make no sense are refused")
  func sizes() throws {
    for (blockByteCount, blockCount) in [
      (1, 1), (1024, 1), (4096, 0), (0, 1), (4096, UInt64.max), (512, 1 << 54),
    ] as [(UInt32, UInt64)] {
      var answer = unit
      answer.blockByteCount = blockByteCount
      answer.blockCount = blockCount
      let bytes = try answer.encoded()
      #expect(throws: ProtocolFault.self) { try UnitOpening(decoding: bytes) }
    }
  }

  @Test("IO-4, IO-5: no bytes, cut, changed or random, do more than throw")
  func hostileBytes() throws {
    var generator = SeededGenerator(seed: 42)
    let samples = [try host.encoded(), try unit.encoded(), try entry.encoded()]
    for sample in samples {
      for count in 0...sample.count { decodeAll(Array(sample.prefix(count))) }
      for _ in 0..<20_000 {
        var bytes = sample
        for _ in 0..<Int.random(in: 1...4, using: &generator) {
          bytes[Int.random(in: 0..<bytes.count, using: &generator)] =
            UInt8.random(in: .min ... .max, using: &generator)
        }
        decodeAll(bytes)
      }
    }
    for _ in 0..<20_000 {
      let count = Int.random(in: 0...140, using: &generator)
      decodeAll((0..<count).map { _ in UInt8.random(in: .min ... .max, using: &generator) })
    }
  }

  /// What does decode must encode to the same bytes again.
  private func decodeAll(_ bytes: [UInt8]) {
    if let value = try? HostOpening(decoding: bytes) { #expect(try! value.encoded() == bytes) }
    if let value = try? UnitOpening(decoding: bytes) { #expect(try! value.encoded() == bytes) }
    withView(bytes) { view in
      if let value = try? VolumeEntry(decoding: view), value.volume != nil {
        #expect(try! value.encoded() == bytes)
      }
      if let value = try? VolumeQuery(decoding: view) { #expect(value.encoded() == bytes) }
      if let value = try? CommandCapsule(decoding: view) {
        #expect(encoded(64) { value.encode(into: $0) } == bytes)
      }
      if let value = try? ResponseCapsule(decoding: view) {
        #expect(encoded(16) { value.encode(into: $0) } == bytes)
      }
    }
  }
}
