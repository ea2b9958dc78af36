import FabricIWARP
import FabricWire

/// The framing. Offset 0: bits 0 markers, 1 checksums, 2 whether the rest is a stream or segments.
func fuzzFPDUs(_ input: FuzzInput) {
  var input = input
  let flags = input.byte()
  let (markers, checksums) = (flags & 1 != 0, flags & 2 != 0)
  if flags & 4 == 0 {
    readFPDUs(input.remainder(), markers: markers, checksums: checksums)
  } else {
    writeAndReadFPDUs(&input, markers: markers, checksums: checksums)
  }
}

/// Any stream is read to its end or to its first fault, and no byte is looked at twice.
private func readFPDUs(_ stream: [UInt8], markers: Bool, checksums: Bool) {
  var reader = FPDUReader(markers: markers, checksums: checksums)
  var rest = stream[...]
  var count = 0
  while true {
    var segment: [UInt8]?
    guard
      let taken = try? withExactView(rest, { try reader.take(from: $0) { segment = $0.array } })
    else { break }
    require(segment != nil, "an FPDU without a segment")
    require(taken >= segment!.count + 6 && taken <= rest.count, "\(taken) bytes were taken")
    rest = rest.dropFirst(taken)
    count += 1
  }
  require(count * 8 <= stream.count, "more FPDUs than fit")
}

/// Segments, each behind its length in 2 bytes, come back as they were written, however the stream
/// is cut.
private func writeAndReadFPDUs(_ input: inout FuzzInput, markers: Bool, checksums: Bool) {
  var writer = FPDUWriter(markers: markers, checksums: checksums)
  var reader = FPDUReader(markers: markers, checksums: checksums)
  while !input.isEmpty {
    let length = Int(input.byte()) << 8 | Int(input.byte())
    let cut = Int(input.byte())
    var segment = input.bytes(length)
    // Long ones need not be in the input.
    segment += [UInt8](repeating: 7, count: min(length - segment.count, 2000))
    var fpdu: [UInt8] = []
    withExactView(segment) { writer.append($0, to: &fpdu) }
    let early = try! withExactView(fpdu.prefix(cut % fpdu.count)) {
      try reader.take(from: $0) { _ in }
    }
    require(early == nil, "an FPDU was read before all of it was there")
    var read: [UInt8]?
    let taken = try! withExactView(fpdu) { try reader.take(from: $0) { read = $0.array } }
    require(taken == fpdu.count && read == segment, "an FPDU was read otherwise than written")
  }
}
