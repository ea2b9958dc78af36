import FabricIWARP
import FabricVerbs
import FabricWire

/// The receiving half of a connection. Offset 0: bits 0 markers, 1 checksums, 2 immediate data,
/// 3 the peer's reads are answered, 4 payload is read straight to its place, 5 the rest is segments,
/// each behind its length in 2 bytes, instead of FPDUs. Offset 1: the pieces' size. Offset 2: reads
/// that the peer may have, and receives that are posted. Offset 3: reads under way. Then the bytes.
///
/// However they are cut, the same must come of them.
func fuzzStream(_ input: FuzzInput) {
  var input = input
  let flags = input.byte()
  let piece = Int(input.byte())
  let run = StreamRun(flags: flags, depths: input.byte(), readCount: Int(input.byte() & 7))
  let stream = flags & 32 == 0 ? input.remainder() : run.framed(&input)
  let whole = run.outcome(stream, piece: max(1, stream.count), isDirect: false)
  let cut = run.outcome(stream, piece: max(1, piece), isDirect: flags & 16 != 0)
  require(whole == cut, "\(whole) of the whole, \(cut) of pieces")
}

private struct StreamRun {
  /// What came of a stream: messages' pieces put together, and how it ended.
  struct Outcome: Equatable {
    var parts: [Part] = []
    var consumedByteCount = 0
    var cause: TerminateCause?
    var terminate: TerminateMessage?
  }

  struct Part: Equatable {
    var kind: StreamEvent.Kind
    var key: RemoteKey
    var place: UInt64
    var bytes: [UInt8]
    var isFirst: Bool
    var isLast: Bool
    var immediate: UInt64 = 0
    var writeByteCount: Int?
    var terminate: TerminateMessage?
  }

  let options: StreamReceiver.Options
  let answersReads: Bool
  let receiveCount: Int
  let readCount: Int

  init(flags: UInt8, depths: UInt8, readCount: Int) {
    var options = StreamReceiver.Options()
    options.hasMarkers = flags & 1 != 0
    options.hasChecksums = flags & 2 != 0
    options.takesImmediate = flags & 4 != 0
    options.inboundReadDepth = Int(depths & 7)
    self.options = options
    answersReads = flags & 8 != 0
    receiveCount = Int(depths >> 3)
    self.readCount = readCount
  }

  /// The segments in `input` as FPDUs.
  func framed(_ input: inout FuzzInput) -> [UInt8] {
    var writer = FPDUWriter(markers: options.hasMarkers, checksums: options.hasChecksums)
    var stream: [UInt8] = []
    while !input.isEmpty {
      let length = Int(input.byte()) << 8 | Int(input.byte())
      withExactView(input.bytes(length)) { writer.append($0, to: &stream) }
    }
    return stream
  }

  func outcome(_ stream: [UInt8], piece: Int, isDirect: Bool) -> Outcome {
    let receiver = StreamReceiver(options)
    for index in 0..<readCount {
      receiver.expectReadResponse(
        key: RemoteKey(rawValue: UInt32(index)), offset: UInt64(index) << 12, byteCount: index * 7)
    }
    var outcome = Outcome()
    var receivesLeft = receiveCount
    var end = 0
    while true {
      let start = outcome.consumedByteCount
      if isDirect, receiver.directByteCount > 0, start < end {
        takeDirectly(receiver, stream[start..<end], &outcome)
        continue
      }
      let event: StreamEvent
      do throws(StreamViolation) {
        event = try withExactView(stream[start..<end]) { view throws(StreamViolation) in
          let event = try receiver.next(view, canReceive: receivesLeft > 0)
          outcome.take(event, of: view.byteCount)
          return event
        }
      } catch {
        outcome.cause = error.cause
        outcome.terminate = receiver.terminateMessage(error.cause)
        return outcome
      }
      switch event.kind {
      case .needsMore:
        require(event.neededByteCount > end - start, "needs what is there")
        require(event.neededByteCount < 1 << 17, "needs \(event.neededByteCount) bytes")
        guard end < stream.count else { return outcome }
        end = min(stream.count, end + piece)
      case .needsReceive:
        require(receivesLeft == 0, "a receive was there")
        receivesLeft = 1
      case .send, .immediate: if event.isFirst { receivesLeft -= 1 }
      case .readRequest: if answersReads { receiver.readWasAnswered() }
      case .empty, .write, .readResponse, .terminate: break
      }
    }
  }

  private func takeDirectly(
    _ receiver: StreamReceiver, _ bytes: ArraySlice<UInt8>, _ outcome: inout Outcome
  ) {
    guard let place = receiver.directPlace else { fatalError("bytes without a place") }
    let count = min(receiver.directByteCount, bytes.count)
    outcome.add(
      Part(
        kind: place.kind, key: place.key,
        place: place.kind == .write ? place.target : UInt64(place.offset),
        bytes: Array(bytes.prefix(count)), isFirst: false, isLast: false))
    outcome.consumedByteCount += count
    receiver.tookDirectly(count)
  }
}

extension StreamRun.Outcome {
  fileprivate mutating func take(_ event: StreamEvent, of byteCount: Int) {
    require(event.consumedByteCount <= byteCount, "consumed more than there was")
    if event.kind == .needsMore || event.kind == .needsReceive {
      require(event.consumedByteCount == 0, "consumed without an event")
      return
    }
    require(event.consumedByteCount > 0, "an event of no bytes")
    require(event.segmentByteCount >= event.payload.byteCount, "more payload than the segment has")
    consumedByteCount += event.consumedByteCount
    var part = StreamRun.Part(
      kind: event.kind, key: event.key,
      place: event.kind == .write ? event.target : UInt64(event.messageOffset),
      bytes: event.payload.array, isFirst: event.isFirst, isLast: event.isLast)
    switch event.kind {
    case .immediate:
      part.immediate = event.immediate
      part.writeByteCount = event.writeByteCount
    case .readRequest: require(event.readRequest != nil, "a read request that is none")
    case .terminate: part.terminate = event.terminate
    default: break
    }
    add(part)
  }

  /// Puts what continues the last part behind it.
  fileprivate mutating func add(_ part: StreamRun.Part) {
    if let last = parts.last, !last.isLast, !part.isFirst, last.kind == part.kind,
      last.key == part.key, last.place &+ UInt64(last.bytes.count) == part.place,
      [.write, .send, .readResponse].contains(part.kind)
    {
      parts[parts.count - 1].bytes += part.bytes
      parts[parts.count - 1].isLast = part.isLast
    } else {
      parts.append(part)
    }
  }
}
