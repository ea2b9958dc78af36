import FabricNBDProtocol
import FabricWire

@testable import FabricNBD

/// What an NBD client sends before it has chosen an export, cut into pieces of all lengths: all at
/// once and in pieces it comes to the same, and nothing is taken twice.
func fuzzNBDOptions(_ input: FuzzInput) {
  var input = input
  let exports = [
    NBDExport(name: "disk", byteCount: 1 << 20, blockByteCount: 4096, isReadOnly: false),
    NBDExport(name: "book", byteCount: 1 << 16, blockByteCount: 512, isReadOnly: true),
  ]
  let piece = 1 + input.number(below: 64)
  let bytes = input.remainder()
  let whole = handshake(bytes, in: max(1, bytes.count), exports)
  let cut = handshake(bytes, in: piece, exports)
  require(whole.outcome == cut.outcome, "it ended \(whole.outcome), in pieces \(cut.outcome)")
  require(whole.output == cut.output, "it said \(whole.output), in pieces \(cut.output)")
}

private func handshake(
  _ bytes: [UInt8], in piece: Int, _ exports: [NBDExport]
) -> (outcome: NBDHandshake.Outcome, output: [UInt8]) {
  var handshake = NBDHandshake(exports: exports)
  var output: [UInt8] = []
  var start = 0
  var end = 0
  while end < bytes.count {
    end = min(bytes.count, end + piece)
    while true {
      let (taken, needed, outcome) = withExactView(bytes[start..<end]) { handshake.step($0) }
      require(taken <= end - start, "more was taken than there is")
      output += handshake.takeOutput()
      start += taken
      if outcome != .continues { return (outcome, output) }
      if taken == 0 {
        require(needed > end - start, "it has the \(needed) bytes that it needs")
        break
      }
      if start == end { break }
    }
  }
  return (.continues, output)
}

/// The 28 bytes of a request, under rules that the input chooses: what is taken lies inside the
/// volume.
func fuzzNBDRequests(_ input: FuzzInput) {
  var input = input
  let choice = input.byte()
  let rules = NBDRules(
    byteCount: 64 << 20, blockMask: choice & 1 == 0 ? 511 : 4095, isReadOnly: choice & 2 != 0,
    hasStructuredReplies: choice & 4 != 0, hasAllocationContext: choice & 8 != 0)
  while !input.isEmpty {
    var bytes = input.bytes(NBD.requestByteCount)
    bytes += [UInt8](repeating: 0, count: NBD.requestByteCount - bytes.count)
    if choice & 16 != 0 { bytes.replaceSubrange(0..<4, with: [0x25, 0x60, 0x95, 0x13]) }
    guard let request = withExactView(bytes, { NBDRequest($0) }) else { continue }
    guard request.refusal(under: rules) == nil, let command = request.command else { continue }
    switch command {
    case .disconnect: break
    case .flush: require(request.length == 0 && request.offset == 0, "a flush of something")
    default:
      require(request.length > 0, "nothing was taken for something")
      require(request.offset <= rules.byteCount, "it begins outside")
      require(UInt64(request.length) <= rules.byteCount - request.offset, "it ends outside")
      require((request.offset | UInt64(request.length)) & rules.blockMask == 0, "parts of blocks")
    }
    let changes = [NBD.Command.write, .trim, .writeZeroes].contains(command)
    require(!rules.isReadOnly || !changes, "what may only be read was to be changed")
  }
}
