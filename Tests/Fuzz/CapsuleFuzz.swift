import FabricIOProtocol
import FabricWire

/// What host and unit say to each other. Offset 0: which; then its bytes. What can be read is
/// written back as it came, but for the end of a listing, of which only the first byte counts.
func fuzzCapsules(_ input: FuzzInput) {
  var input = input
  let choice = input.number(below: 6)
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
      default:
        let entry = try VolumeEntry(decoding: view)
        return entry.volume == nil ? bytes : try entry.encoded()
      }
    }
  } catch {
    return require(!"\(error)".isEmpty, "a refusal without a reason")
  }
  require(again == bytes, "\(bytes) came back as \(again)")
}
