import FabricNIC
import FabricWire
import Testing

/// Frames as they lie in messages.
enum TestFrame {
  /// A record: the virtio-net header's fields, and the frame.
  static func record(
    _ frame: [UInt8], flags: UInt8 = 0, kind: UInt8 = 0, header: UInt16 = 0, segment: UInt16 = 0,
    start: UInt16 = 0, offset: UInt16 = 0
  ) -> [UInt8] {
    var bytes: [UInt8] = [0, 8, 16, 24].map { UInt8(truncatingIfNeeded: frame.count >> $0) }
    bytes += [0, 0, flags, kind]
    for value in [header, segment, start, offset] {
      bytes += [UInt8(truncatingIfNeeded: value), UInt8(truncatingIfNeeded: value >> 8)]
    }
    bytes += frame
    return bytes + [UInt8](repeating: 0, count: -bytes.count & 7)
  }

  static func frame(
    to destination: MACAddress, from source: MACAddress, byteCount: Int = 60, fill: UInt8 = 0xA5
  ) -> [UInt8] {
    let head = destination.bytes + source.bytes + [0x88, 0xB5]
    return head + [UInt8](repeating: fill, count: max(0, byteCount - head.count))
  }
}

@Suite("NIC: frames")
struct FrameTests {
  private let one = MACAddress("02:00:00:00:00:01")!
  private let two = MACAddress("02:00:00:00:00:02")!

  private func fault(of record: [UInt8], mtu: Int = 1500) -> FrameFault? {
    unsafe record.withUnsafeBytes { raw in
      Frame(in: unsafe WireView(raw), at: 0)!.fault(mtu: mtu)
    }
  }

  @Test("NI-11: addresses and lengths of records, one behind the other")
  func records() {
    let bytes =
      TestFrame.record(TestFrame.frame(to: two, from: one, byteCount: 61))
      + TestFrame.record(TestFrame.frame(to: .broadcast, from: two, byteCount: 14))
    unsafe bytes.withUnsafeBytes { raw in
      let view = unsafe WireView(raw)
      let first = Frame(in: view, at: 0)!
      #expect(first.destination == two && first.source == one && first.byteCount == 61)
      #expect(first.recordByteCount == 80)
      let second = Frame(in: view, at: 80)!
      #expect(second.destination == .broadcast && second.source == two)
      #expect(second.byteCount == 14 && second.recordByteCount == 32)
      #expect(Frame(in: view, at: 112) == nil)
    }
  }

  @Test("NI-12: a record that does not fit its message")
  func misfits() {
    let good = TestFrame.record(TestFrame.frame(to: two, from: one))
    for (index, value) in [(0, 255), (1, 255), (3, 1)] {
      var bytes = good
      bytes[index] = UInt8(value)
      unsafe bytes.withUnsafeBytes { #expect(Frame(in: unsafe WireView($0), at: 0) == nil) }
    }
    for count in 1..<75 {
      unsafe good.prefix(count).withUnsafeBytes {
        #expect(Frame(in: unsafe WireView($0), at: 0) == nil, "\(count) bytes")
      }
    }
  }

  @Test("NI-12: what is passed on is what was checked, also when the peer changes it meanwhile")
  func changed() {
    var bytes = TestFrame.record(TestFrame.frame(to: two, from: one))
    let original = bytes
    var copy = [UInt8](repeating: 0, count: bytes.count)
    unsafe bytes.withUnsafeMutableBytes { raw in
      let frame = Frame(in: unsafe WireView(UnsafeRawBufferPointer(raw)), at: 0)!
      for index in 0..<30 { unsafe raw[index] = 0xEE }
      unsafe copy.withUnsafeMutableBytes { frame.copy(to: unsafe WireBuffer($0), at: 0) }
    }
    #expect(copy.prefix(76) == original.prefix(76))
  }

  @Test("NI-13: frames that are dropped, and why")
  func faults() {
    let plain = TestFrame.frame(to: two, from: one)
    #expect(fault(of: TestFrame.record(plain)) == nil)
    for count in [0, 1, 13] {
      #expect(fault(of: TestFrame.record([UInt8](repeating: 2, count: count))) == .runt)
    }
    func long(_ count: Int, tag: Bool = false) -> [UInt8] {
      var frame = TestFrame.frame(to: two, from: one, byteCount: count)
      if tag { frame.replaceSubrange(12..<14, with: [0x81, 0]) }
      return TestFrame.record(frame)
    }
    #expect(fault(of: long(1514)) == nil && fault(of: long(1515)) == .oversize)
    #expect(fault(of: long(1522, tag: true)) == nil)
    #expect(fault(of: long(1523, tag: true)) == .oversize)
    #expect(fault(of: long(9014), mtu: 9000) == nil)
    let large = TestFrame.frame(to: two, from: one, byteCount: 65_000)
    func segments(
      _ kind: UInt8, flags: UInt8 = 1, header: UInt16 = 54, segment: UInt16 = 1448,
      start: UInt16 = 34, offset: UInt16 = 16
    ) -> FrameFault? {
      fault(
        of: TestFrame.record(
          large, flags: flags, kind: kind, header: header, segment: segment, start: start,
          offset: offset))
    }
    #expect(segments(1) == nil && segments(4) == nil && segments(5) == nil && segments(0x81) == nil)
    #expect(segments(2) == .badHeader && segments(3) == .badHeader && segments(0x7F) == .badHeader)
    #expect(segments(1, flags: 0) == .badHeader && segments(1, flags: 5) == .badHeader)
    #expect(segments(1, segment: 0) == .badHeader && segments(1, segment: 1500) == .oversize)
    // With their headers they fit, to the byte.
    #expect(segments(1, segment: 1460) == nil && segments(1, segment: 1461) == .oversize)
    #expect(segments(5, segment: 1472, offset: 6) == nil)
    #expect(segments(5, segment: 1473, offset: 6) == .oversize)
    #expect(segments(1, header: 65_001) == .badHeader)
    #expect(segments(1, start: 13) == .badHeader && segments(1, start: 64_999) == .badHeader)
    #expect(segments(1, start: 65_535, offset: 65_535) == .badHeader)
    #expect(fault(of: TestFrame.record(plain, flags: 1, start: 34, offset: 24)) == nil)
    #expect(fault(of: TestFrame.record(plain, flags: 1, start: 34, offset: 25)) == .badHeader)
  }
}
