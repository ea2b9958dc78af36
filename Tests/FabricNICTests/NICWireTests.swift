import FabricNIC
import FabricWire
import Testing

@Suite("NIC: openings and messages")
struct NICWireTests {
  private let address = MACAddress("02:00:5e:10:00:01")!

  private func view<Value>(_ bytes: [UInt8], _ body: (WireView) throws -> Value) rethrows -> Value {
    let copy = bytes + [0]
    return try unsafe copy.withUnsafeBytes {
      try body(unsafe WireView($0.baseAddress!, byteCount: bytes.count))
    }
  }

  @Test("NI-2, NI-4: a host's opening, byte by byte")
  func hostOpening() throws {
    let opening = HostNICOpening(
      nicName: "lan0", hostName: "a", session: .init(high: 0x0102_0304_0506_0708, low: 9),
      address: address)
    let bytes: [UInt8] =
      [0x43, 0x46, 0x4E, 0x49, 1, 0, 2, 0, 0x5E, 0x10, 0, 1, 4, 1, 0, 0]
      + [8, 7, 6, 5, 4, 3, 2, 1, 9, 0, 0, 0, 0, 0, 0, 0] + Array("lan0a".utf8)
    #expect(try opening.encoded() == bytes)
    #expect(try HostNICOpening(decoding: bytes) == opening)
    #expect(HostNICOpening.isMarked(bytes) && !HostNICOpening.isMarked([0x43, 0x46, 0x49, 0x4F]))
    var none = bytes
    none.replaceSubrange(6..<12, with: [0, 0, 0, 0, 0, 0])
    #expect(try HostNICOpening(decoding: none).address == nil)
  }

  @Test("NI-2 to NI-4: openings that are refused, in words")
  func hostileOpenings() throws {
    let good = try HostNICOpening(
      nicName: "lan0", hostName: "a", session: .init(high: 1, low: 2), address: address
    ).encoded()
    func refusal(_ change: (inout [UInt8]) -> Void) -> String {
      var bytes = good
      change(&bytes)
      do {
        _ = try HostNICOpening(decoding: bytes)
        return "taken"
      } catch { return "\(error)" }
    }
    for count in 0..<good.count {
      #expect(refusal { $0 = Array($0.prefix(count)) }.hasPrefix("expected"), "\(count) bytes")
    }
    #expect(refusal { $0[0] = 0 }.contains("expected an opening of a network driver's"))
    #expect(refusal { $0[4] = 2 }.contains("update the older side"))
    #expect(refusal { $0[6] = 1 }.contains("the address"))
    #expect(refusal { $0[12] = 0 }.contains("bytes"))
    #expect(refusal { $0[14] = 1 }.contains("bytes 14 and 15"))
    #expect(refusal { $0[32] = 0xFF }.contains("UTF-8"))
    #expect(refusal { $0.append(0) }.contains("bytes"))
    let long = HostNICOpening(
      nicName: String(repeating: "x", count: 65), hostName: "a", session: .random(), address: nil)
    #expect(throws: NICFault.self) { try long.encoded() }
  }

  @Test("NI-3, NI-5: a unit's answer, byte by byte, and those that are refused")
  func unitOpening() throws {
    let opening = UnitNICOpening(
      unitName: "u", address: address, link: LinkNotice(isUp: true, mtu: 9000))
    let bytes: [UInt8] =
      [0x43, 0x46, 0x4E, 0x49, 1, 0, 2, 0, 0x5E, 0x10, 0, 1, 0x28, 0x23, 0, 0, 1, 1, 0, 0, 0x75]
    #expect(try opening.encoded() == bytes)
    #expect(try UnitNICOpening(decoding: bytes) == opening)
    for (offset, value) in [(6, 1), (14, 1), (16, 2), (17, 0), (17, 9), (20, 0xFF)] {
      var changed = bytes
      changed[offset] = UInt8(value)
      #expect(throws: NICFault.self, "byte \(offset)") {
        try UnitNICOpening(decoding: changed)
      }
    }
  }

  @Test("NI-10: what is about no frame, byte by byte")
  func controls() throws {
    let link = LinkNotice(isUp: false, mtu: 1500)
    #expect(link.encoded == [0xDC, 5, 0, 0, 0, 0, 0, 0])
    #expect(try view(link.encoded) { try LinkNotice(decoding: $0) } == link)
    let claim = AddressClaim(address)
    #expect(claim.encoded == [2, 0, 0x5E, 0x10, 0, 1])
    #expect(try view(claim.encoded) { try AddressClaim(decoding: $0) } == claim)
    let answer = AddressAnswer(address, isGranted: true)
    #expect(answer.encoded == [2, 0, 0x5E, 0x10, 0, 1, 1, 0])
    #expect(try view(answer.encoded) { try AddressAnswer(decoding: $0) } == answer)
    var statistics = NICStatistics()
    for (index, field) in NICStatistics.fields.enumerated() {
      statistics[keyPath: field.path] = UInt64(index + 1)
    }
    #expect(statistics.encoded.count == 128 && statistics.encoded[120] == 16)
    #expect(try view(statistics.encoded) { try NICStatistics(decoding: $0) } == statistics)
    #expect(statistics.dropCount == 8 + 9 + 10 + 11 + 12 + 13 + 14 + 15 + 16)
    for bytes in [[], [1, 2, 3], [UInt8](repeating: 0xFF, count: 8)] as [[UInt8]] {
      #expect(throws: NICFault.self) { try view(bytes) { try LinkNotice(decoding: $0) } }
      #expect(throws: NICFault.self) { try view(bytes) { try AddressClaim(decoding: $0) } }
      #expect(throws: NICFault.self) { try view(bytes) { try AddressAnswer(decoding: $0) } }
      #expect(throws: NICFault.self) { try view(bytes) { try NICStatistics(decoding: $0) } }
    }
  }

  @Test("Addresses as text")
  func addresses() {
    #expect("\(address)" == "02:00:5e:10:00:01" && MACAddress("2:0:5e:10:0:1") == address)
    for text in [
      "", "02:00:5e:10:00", "02:00:5e:10:00:01:02", "02:00:5e:10:00:1g", "002:0:0:0:0:0",
    ] {
      #expect(MACAddress(text) == nil, "\(text)")
    }
    #expect(MACAddress.broadcast.isGroup && !address.isGroup && address.isOfStation)
    for _ in 0..<100 { #expect(MACAddress.random().isOfStation) }
  }
}
