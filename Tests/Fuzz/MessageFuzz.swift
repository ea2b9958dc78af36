import FabricVerbs
import FabricWire

@testable import FabricMessaging
@testable import FabricSharedMemory

/// What channels and sockets read, and what channels count. Offset 0: which; then its bytes.
func fuzzMessages(_ input: FuzzInput) {
  var input = input
  switch input.number(below: 7) {
  case 0: headers(input.remainder())
  case 1: openings(input.remainder())
  case 2: creditIsBounded(&input)
  case 3: peerBuffersAreTakenOnce(&input)
  case 4: ownBuffersAreHeldOnce(&input)
  case 5: hellos(input.remainder())
  default: controlMessages(input.remainder())
  }
}

/// What is read is written back as it was.
private func headers(_ bytes: [UInt8]) {
  withExactView(bytes) { view in
    guard let header = MessageHeader(view) else { return }
    require(
      written(MessageHeader.byteCount, header.write)
        == Array(bytes.prefix(MessageHeader.byteCount)),
      "a header came back otherwise")
    let value = view.uint32(at: 8)
    require(Immediate(value).value == value, "an immediate value came back otherwise")
  }
}

private func openings(_ bytes: [UInt8]) {
  let read: (([UInt8]) -> Opening?) = { bytes in
    withExactView(bytes) { view in
      do throws(Opening.Malformed) { return try Opening(view) } catch {
        require(!error.words.isEmpty, "a refusal without a reason")
        return nil
      }
    }
  }
  guard let opening = read(bytes) else { return }
  require(opening.greeting.count <= Opening.maximumGreetingByteCount, "the greeting is too long")
  let again = written(bytes.count) { _ = opening.write(to: $0) }
  guard let other = read(again) else { fatalError("an opening cannot be read again") }
  var expected = opening
  // What is written is what this side speaks.
  expected.versions = other.versions
  require(other == expected, "an opening came back otherwise")
}

/// What is read is written back as it was, but for the header and the versions.
private func hellos(_ bytes: [UInt8]) {
  withExactView(bytes) { view in
    guard let hello = try? KeyHello(view) else { return }
    let again = written(bytes.count) { _ = hello.write(to: $0) }
    require(again[20...] == bytes[20...], "a hello came back otherwise")
  }
}

private func controlMessages(_ bytes: [UInt8]) {
  let read: (([UInt8]) -> ControlMessage?) = { bytes in
    withExactView(bytes) { try? ControlMessage($0) }
  }
  guard let message = read(bytes) else { return }
  require(read(message.bytes) == message, "\(message) came back otherwise")
}

// MARK: Counts

private func creditIsBounded(_ input: inout FuzzInput) {
  let window = 8 + UInt32(input.byte())
  let credit = SendCredit(initial: 0)
  credit.open(window: window)
  var isHonest = true
  while !input.isEmpty, isHonest {
    if input.number(below: 2) == 0 {
      if credit.hasAnyCredit { credit.consume() }
    } else {
      let value = withExactView(input.bytes(4) + [0, 0, 0, 0]) { $0.uint32(at: 0) }
      // Small steps are told from where it stands.
      let near = credit.granted &- window &+ value & 0xff
      isHonest = credit.update(value & 1 == 0 ? near : value)
    }
    require(credit.available <= window, "\(credit.available) of \(window) may be sent")
  }
}

private func peerBuffersAreTakenOnce(_ input: inout FuzzInput) {
  let count = input.number(below: 20)
  let buffers = PeerBuffers(count: count, address: 0, byteCount: 4096)
  var taken: Set<UInt16> = []
  while !input.isEmpty {
    if input.number(below: 2) == 0 {
      guard let id = buffers.take() else {
        require(taken.count == count, "a free buffer was not found")
        continue
      }
      require(taken.insert(id).inserted && id < count, "buffer \(id) was taken twice")
    } else {
      let id = UInt16(input.byte()) | UInt16(input.byte() & 1) << 8
      require(buffers.comeBack(id) == (taken.remove(id) != nil), "buffer \(id) came back")
    }
  }
}

private func ownBuffersAreHeldOnce(_ input: inout FuzzInput) {
  let count = input.number(below: 20)
  let buffers = OwnBuffers(count: count)
  var held: Set<UInt16> = []
  var untold: Set<UInt16> = []
  while !input.isEmpty {
    let choice = input.number(below: 3)
    let id = UInt16(input.byte())
    switch choice {
    case 0:
      let isFree = id < count && !held.contains(id) && !untold.contains(id)
      require(buffers.hold(id) == isFree, "buffer \(id) was filled")
      if isFree { held.insert(id) }
    case 1:
      if held.remove(id) != nil {
        buffers.giveBack(id)
        untold.insert(id)
      }
    default:
      let told = buffers.takeUntold()
      require(told.map { untold.remove($0) != nil } ?? untold.isEmpty, "\(told ?? 0) was told")
    }
    require(buffers.untoldCount == untold.count, "the untold were miscounted")
  }
}
