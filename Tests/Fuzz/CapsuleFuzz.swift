import FabricIOProtocol
import FabricWire

/// What host and unit say to each other. Offset 0: which; then its bytes. What can be read is
/// written back as it came, but for the end of a listing, of which only the first byte counts, and a
/// status that nobody knows.
func fuzzCapsules(_ input: FuzzInput) {
  var input = input
  let choice = input.number(below: 13)
  let bytes = input.remainder()
  let again: [UInt8]
  do {
    again = try withExactView(bytes) { view in
      switch choice {
      case 0:
        let command = try CommandCapsule(decoding: view)
        return written(CommandCapsule.byteCount) { command.encode(into: $0) }
      case 1:
        let response = try ResponseCapsule(decoding: view)
        return written(ResponseCapsule.byteCount) { response.encode(into: $0) }
      case 2: return try HostOpening(decoding: bytes).encoded()
      case 3: return try UnitOpening(decoding: bytes).encoded()
      case 4: return try VolumeQuery(decoding: view).encoded()
      case 5:
        let entry = try VolumeEntry(decoding: view)
        return entry.volume == nil ? bytes : try entry.encoded()
      default: return try fuzzOthers(choice, view, bytes)
      }
    }
  } catch {
    return require(!"\(error)".isEmpty, "a refusal without a reason")
  }
  require(again == bytes, "\(bytes) came back as \(again)")
}

/// What is not about one request or one volume.
private func fuzzOthers(_ choice: Int, _ view: WireView, _ bytes: [UInt8]) throws -> [UInt8] {
  switch choice {
  case 6: return try FenceRequest(decoding: view).encoded()
  case 7:
    let answer = try FenceAnswer(decoding: view)
    let isPlain = answer.outcomes.allSatisfy { $0.status != nil && $0.status != .internalError }
    return isPlain ? answer.encoded() : bytes
  case 8: return try PathStateNotice(decoding: view).encoded()
  case 9:
    let entry = try AddressEntry(decoding: view)
    return entry.address.map { AddressEntry.fits($0.address) } == true ? entry.encoded() : bytes
  case 10: return try ControlCall(decoding: view).encoded()
  case 11: return try ControlAnswer(decoding: view).encoded()
  default: return try ControlIdentity(decoding: bytes).encoded()
  }
}
