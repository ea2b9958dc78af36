import FabricIWARP
import FabricWire
import Testing

@Suite("iWARP: FPDUs")
struct FPDUTests {
  @Test("IW-3: the FPDUs of two Linux ends are read, and written back byte by byte")
  func capture() throws {
    var reader = FPDUReader(markers: false, checksums: false)
    var writer = FPDUWriter(markers: false, checksums: false)
    for payload in try Capture.rping().payloads.dropFirst(2) {
      let segment = try #require(try take(&reader, payload.bytes))
      #expect(segment.taken == payload.bytes.count)
      #expect(written(&writer, segment.bytes) == payload.bytes)
    }
  }

  @Test("IW-3: the checksum is over length, segment and padding, its low byte first")
  func checksum() throws {
    var writer = FPDUWriter(markers: false, checksums: true)
    // The sum of 00 01 61 00, by another program.
    let fpdu = written(&writer, [0x61])
    #expect(fpdu == [0, 1, 0x61, 0] + [0xc8, 0x64, 0x18, 0x7e])
    var reader = FPDUReader(markers: false, checksums: true)
    #expect(try take(&reader, fpdu)?.bytes == [0x61])
    for index in fpdu.indices.dropFirst(2) {
      var bad = fpdu
      bad[index] ^= 0x10
      #expect(throws: FPDUReader.Fault.checksum) { try take(&reader, bad) }
    }
    #expect(FPDUReader.Fault.checksum.cause == TerminateCause.MPA.checksum)
  }

  @Test("IW-4: a marker stands every 512 bytes and tells how far back its FPDU begins")
  func markers() throws {
    var writer = FPDUWriter(markers: true, checksums: false)
    let first = written(&writer, [UInt8](repeating: 7, count: 600))
    #expect(first[..<6] == [0, 0, 0, 0, 0x02, 0x58], "a marker, then the length")
    #expect(first[512..<516] == [0, 0, 0x01, 0xfc], "508 bytes behind the length")
    #expect(first.count == 4 + 604 + 4 + 4)
    let second = written(&writer, [UInt8](repeating: 8, count: 500))
    #expect(second[(1024 - first.count)..<(1028 - first.count)] == [0, 0, 0x01, 0x98])

    var reader = FPDUReader(markers: true, checksums: false)
    #expect(try take(&reader, first)?.bytes == [UInt8](repeating: 7, count: 600))
    var bad = second
    bad[1024 - first.count + 3] ^= 4
    var other = reader
    #expect(throws: FPDUReader.Fault.marker) { try take(&other, bad) }
    #expect(FPDUReader.Fault.marker.cause == TerminateCause.MPA.marker)
    #expect(try take(&reader, second)?.bytes == [UInt8](repeating: 8, count: 500))
  }

  @Test(
    "IW-3, IW-4: a stream of segments of every length is read as it was written, however it is cut",
    arguments: [false, true], [false, true])
  func stream(markers: Bool, checksums: Bool) throws {
    var writer = FPDUWriter(markers: markers, checksums: checksums)
    var reader = FPDUReader(markers: markers, checksums: checksums)
    var stream: [UInt8] = []
    let segments = (0..<700).map { count in
      [UInt8]((0..<count).map { UInt8(truncatingIfNeeded: $0 &* 31 &+ count) })
    }
    for segment in segments { stream += written(&writer, segment) }
    var start = 0
    for (index, segment) in segments.enumerated() {
      // A cut anywhere within an FPDU gives nothing and changes nothing.
      let cut = start + (index * 7) % (segment.count + 6)
      #expect(try take(&reader, Array(stream[start..<cut])) == nil)
      let found = try #require(
        try take(&reader, Array(stream[start..<min(stream.count, start + 2000)])))
      #expect(found.bytes == segment)
      start += found.taken
    }
    #expect(start == stream.count)
  }

  private struct Taken: Equatable {
    let bytes: [UInt8]
    let taken: Int
  }

  private func take(_ reader: inout FPDUReader, _ bytes: [UInt8]) throws -> Taken? {
    var segment: [UInt8] = []
    let taken = try withView(bytes) { try reader.take(from: $0) { segment = $0.array } }
    return taken.map { Taken(bytes: segment, taken: $0) }
  }

  private func written(_ writer: inout FPDUWriter, _ segment: [UInt8]) -> [UInt8] {
    var bytes: [UInt8] = []
    withView(segment) { writer.append($0, to: &bytes) }
    return bytes
  }
}
