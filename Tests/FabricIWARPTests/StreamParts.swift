import FabricIWARP
import FabricVerbs
import FabricWire
import TestSupport
import Testing

/// A message as its receiver has it in the end.
struct StreamMessage: Equatable {
  var opcode: MessageOpcode
  var key = RemoteKey(rawValue: 0)
  /// The first byte's, in the terms of `key`; 0 of untagged ones.
  var place: UInt64 = 0
  var bytes: [UInt8] = []
  var immediate: UInt64 = 0
  var writeByteCount: Int?
}

func segment(
  _ opcode: MessageOpcode, _ isLast: Bool, _ place: SegmentHeader.Place, _ payload: [UInt8]
)
  -> [UInt8]
{
  let header = SegmentHeader(opcode, isLast: isLast, place: place)
  return written(header.byteCount, header.write) + payload
}

/// Makes a stream, and knows what is in it.
struct StreamSender {
  private(set) var stream: [UInt8] = []
  private(set) var messages: [StreamMessage] = []
  var receiverOptions = StreamReceiver.Options()
  /// Reads that the receiver has asked for.
  var expectedReads: [(key: RemoteKey, offset: UInt64, byteCount: Int)] = []
  private var writer: FPDUWriter
  private var nextSend: UInt32 = 1
  private var nextRead: UInt32 = 1
  /// The write right in front.
  private var lastWriteByteCount: Int?

  init(_ markers: Bool, _ checksums: Bool) {
    writer = FPDUWriter(markers: markers, checksums: checksums)
    receiverOptions.hasMarkers = markers
    receiverOptions.hasChecksums = checksums
    receiverOptions.inboundReadDepth = 100
  }

  mutating func append(_ segment: [UInt8]) {
    withView(segment) { writer.append($0, to: &stream) }
  }

  mutating func sendAny(_ generator: inout SeededGenerator) {
    if Int.random(in: 0..<8, using: &generator) == 0 { append([]) }
    let count = [
      0, 1, .random(in: 2..<600, using: &generator), .random(in: 600..<3000, using: &generator),
    ]
    .randomElement(using: &generator)!
    let bytes = (0..<count).map { _ in UInt8.random(in: 0...255, using: &generator) }
    let parts = cut(count, &generator)
    let key = RemoteKey(rawValue: .random(in: 1 ... .max, using: &generator))
    let offset = UInt64.random(in: 0..<1 << 50, using: &generator)
    let opcode = MessageOpcode.allCases.filter { $0 != .terminate }.randomElement(
      using: &generator)!
    var message = StreamMessage(opcode: opcode, key: key, bytes: bytes)
    switch opcode {
    case .write, .readResponse:
      message.place = offset
      sendTagged(opcode, key, offset, bytes, parts)
      if opcode == .write {
        lastWriteByteCount = count
      } else {
        expectedReads.append((key, offset, count))
      }
    case .readRequest:
      message.key = RemoteKey(rawValue: 0)
      message.bytes = written(ReadRequestHeader.byteCount) {
        ReadRequestHeader(
          sinkKey: key, sinkOffset: offset, byteCount: UInt32(count), sourceKey: key,
          sourceOffset: offset
        ).write(to: $0)
      }
      sendUntagged(opcode, nextRead, message.key, message.bytes, [message.bytes.count])
      nextRead += 1
    case .immediate, .immediateWithSolicitedEvent:
      message.key = RemoteKey(rawValue: 0)
      message.immediate = offset
      message.bytes = (0..<8).map { UInt8(truncatingIfNeeded: offset >> (56 - 8 * $0)) }
      message.writeByteCount = lastWriteByteCount
      lastWriteByteCount = nil
      sendUntagged(opcode, nextSend, message.key, message.bytes, [8])
      nextSend += 1
    default:
      lastWriteByteCount = nil
      sendUntagged(opcode, nextSend, key, bytes, parts)
      nextSend += 1
    }
    messages.append(message)
  }

  mutating func terminate() {
    let bytes = TerminateMessage(TerminateCause.RDMAP.localCatastrophe).bytes
    sendUntagged(.terminate, 1, RemoteKey(rawValue: 0), bytes, [bytes.count])
    messages.append(StreamMessage(opcode: .terminate, bytes: bytes))
  }

  /// Lengths of segments that make up `count` bytes.
  private func cut(_ count: Int, _ generator: inout SeededGenerator) -> [Int] {
    var parts: [Int] = []
    var left = count
    while left > 0 && parts.count < 4 {
      let part = Int.random(in: 1...left, using: &generator)
      parts.append(part)
      left -= part
    }
    if left > 0 || parts.isEmpty { parts.append(left) }
    return parts
  }

  private mutating func sendTagged(
    _ opcode: MessageOpcode, _ key: RemoteKey, _ offset: UInt64, _ bytes: [UInt8], _ parts: [Int]
  ) {
    var done = 0
    for (index, part) in parts.enumerated() {
      append(
        segment(
          opcode, index == parts.count - 1, .tagged(key: key, offset: offset + UInt64(done)),
          Array(bytes[done..<done + part])))
      done += part
    }
  }

  private mutating func sendUntagged(
    _ opcode: MessageOpcode, _ sequence: UInt32, _ key: RemoteKey, _ bytes: [UInt8], _ parts: [Int]
  ) {
    var done = 0
    for (index, part) in parts.enumerated() {
      append(
        segment(
          opcode, index == parts.count - 1,
          .untagged(
            queue: opcode.queue!.rawValue, sequence: sequence, offset: UInt32(done),
            invalidates: key), Array(bytes[done..<done + part])))
      done += part
    }
  }
}

/// A receiver that is given a stream in pieces, and what has come out of it.
struct StreamRun {
  let receiver: StreamReceiver
  private(set) var messages: [StreamMessage] = []
  var answersReads = true
  private let takesDirectly: Bool
  private var open: StreamMessage?
  private var bytes: [UInt8] = []
  private var consumed = 0

  init(_ sender: StreamSender, takesDirectly: Bool = false) {
    self.takesDirectly = takesDirectly
    receiver = StreamReceiver(sender.receiverOptions)
    for read in sender.expectedReads {
      receiver.expectReadResponse(key: read.key, offset: read.offset, byteCount: read.byteCount)
    }
  }

  /// All of `stream` behind what came before, in pieces of so many bytes; all of it must be used up.
  mutating func take(
    _ stream: [UInt8], _ pieces: ClosedRange<Int>, _ generator: inout SeededGenerator
  ) throws {
    bytes = stream
    consumed = 0
    var end = 0
    while consumed < stream.count {
      end = min(stream.count, end + Int.random(in: pieces, using: &generator))
      try takePiece(upTo: end)
    }
  }

  private mutating func takePiece(upTo end: Int) throws {
    var canReceive = false
    while consumed < end {
      if takesDirectly, let place = receiver.directPlace {
        let count = min(receiver.directByteCount, end - consumed)
        add(
          Array(bytes[consumed..<consumed + count]),
          at: place.kind == .send ? UInt64(place.offset) : place.target)
        receiver.tookDirectly(count)
        consumed += count
        continue
      }
      let isOver = try withView(Array(bytes[consumed..<end])) { view in
        let event = try receiver.next(view, canReceive: canReceive)
        if event.kind == .needsMore {
          #expect(event.neededByteCount > view.byteCount && event.consumedByteCount == 0)
          return true
        }
        if event.kind == .needsReceive {
          #expect(!canReceive && event.consumedByteCount == 0)
          canReceive = true
        } else {
          take(event)
          canReceive = false
        }
        return false
      }
      if isOver { return }
    }
  }

  private mutating func take(_ event: StreamEvent) {
    consumed += event.consumedByteCount
    if event.kind == .empty { return }
    let isTagged = event.kind == .write || event.kind == .readResponse
    if event.isFirst {
      #expect(open == nil, "a message within another")
      open = StreamMessage(
        opcode: event.opcode, key: event.key, place: isTagged ? event.target : 0,
        immediate: event.immediate, writeByteCount: event.writeByteCount)
    }
    add(event.payload.array, at: isTagged ? event.target : UInt64(event.messageOffset))
    if event.kind == .readRequest && answersReads { receiver.readWasAnswered() }
    if event.isLast, let message = open.take() { messages.append(message) }
  }

  private mutating func add(_ payload: [UInt8], at place: UInt64) {
    guard let message = open else {
      Issue.record("a piece of no message")
      return
    }
    #expect(place == message.place + UInt64(message.bytes.count))
    open?.bytes += payload
  }
}
