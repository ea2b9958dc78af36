import Testing

@testable import FabricPlatform

@Suite("Platform: checksum")
struct ChecksumTests {
  @Test("The vectors of RFC 3720, appendix B.4")
  func vectors() {
    #expect(Checksum.of([]) == 0)
    #expect(Checksum.of(Array("123456789".utf8)) == 0xE306_9283)
    #expect(Checksum.of(Array(repeating: 0, count: 32)) == 0x8A91_36AA)
    #expect(Checksum.of(Array(repeating: 0xff, count: 32)) == 0x62A8_AB43)
    #expect(Checksum.of(Array(0..<32)) == 0x46DD_794E)
    #expect(Checksum.of((0..<32).reversed()) == 0x113F_DB5C)
  }

  @Test("In pieces, and without the processor's instruction, it is the same")
  func pieces() {
    let bytes = (0..<300).map { UInt8(truncatingIfNeeded: $0 &* 37 &+ $0 >> 3) }
    for count in 0...bytes.count {
      let prefix = Array(bytes[..<count])
      let whole = Checksum.of(prefix)
      unsafe prefix.withUnsafeBytes { raw in
        #expect(unsafe ~Checksum.addSlowly(raw, to: ~0) == whole)
        var sum = Checksum()
        let middle = count * 3 / 7
        unsafe sum.add(UnsafeRawBufferPointer(rebasing: raw[..<middle]))
        unsafe sum.add(UnsafeRawBufferPointer(rebasing: raw[middle...]))
        #expect(sum.value == whole)
      }
    }
  }
}
