import FabricNIC
import FabricWire

/// What the halves of a network driver say to each other. Offset 0: which; then its bytes. What can be read is written
/// back as it came, and a message of frames is passed on record by record.
func fuzzNIC(_ input: FuzzInput) {
  var input = input
  let choice = input.number(below: 7)
  let bytes = input.remainder()
  if choice == 6 { return fuzzFrames(bytes) }
  let again: [UInt8]
  do {
    again = try withExactView(bytes) { view in
      switch choice {
      case 0: return try HostNICOpening(decoding: bytes).encoded()
      case 1: return masked(try UnitNICOpening(decoding: bytes).encoded(), 18..<20, by: bytes)
      case 2: return masked(try LinkNotice(decoding: view).encoded, 5..<8, by: bytes)
      case 3: return try AddressClaim(decoding: view).encoded
      case 4: return masked(try AddressAnswer(decoding: view).encoded, 7..<8, by: bytes)
      default: return try NICStatistics(decoding: view).encoded
      }
    }
  } catch {
    return require(!"\(error)".isEmpty, "a refusal without a reason")
  }
  require(again == bytes, "\(bytes) came back as \(again)")
}

/// Bytes that nobody reads are as they came.
private func masked(_ written: [UInt8], _ range: Range<Int>, by bytes: [UInt8]) -> [UInt8] {
  var result = written
  for index in range where index < bytes.count { result[index] = bytes[index] }
  return result
}

/// Each frame that is no runt is copied whole: its own bytes, and no others.
private func fuzzFrames(_ bytes: [UInt8]) {
  withExactView(bytes) { view in
    var offset = 0
    while offset < view.byteCount, let frame = Frame(in: view, at: offset) {
      let count = FrameRecord.headerByteCount + frame.byteCount
      if frame.fault(mtu: 1500) != .runt {
        var copy = [UInt8](repeating: 0, count: frame.recordByteCount)
        unsafe copy.withUnsafeMutableBytes { frame.copy(to: unsafe WireBuffer($0), at: 0) }
        require(
          copy.prefix(count).elementsEqual(bytes[offset..<offset + count]),
          "a frame of \(frame.byteCount) bytes was not copied as it is")
        let (to, from) = (frame.destination.bytes, frame.source.bytes)
        require(
          copy[16..<28].elementsEqual(to + from), "\(to) and \(from) are not the frame's addresses")
      }
      offset += frame.recordByteCount
    }
  }
}
