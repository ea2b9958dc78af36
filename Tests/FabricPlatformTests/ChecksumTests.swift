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

  @Test("Long stretches, of which three are summed side by side, sum up the same")
  func long() {
    let bytes = (0..<20_000).map { UInt8(truncatingIfNeeded: $0 &* 197 &+ $0 >> 5) }
    for count in [383, 384, 385, 767, 768, 4079, 4080, 4081, 4096, 8160, 12_240, 19_999, 20_000] {
      let prefix = Array(bytes[..<count])
      unsafe prefix.withUnsafeBytes { raw in
        #expect(unsafe ~Checksum.addSlowly(raw, to: ~0) == Checksum.of(prefix), "\(count) bytes")
      }
    }
  }
}
