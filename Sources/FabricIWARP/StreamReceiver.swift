import FabricPlatform
public import FabricVerbs
public import FabricWire

/// The receiving half of a connection behind the start-up: bytes in, what they ask for out.
/// (RFC 5044, RFC 5041, RFC 5040, RFC 7306)
///
/// Checks everything that the stream itself can show: framing, versions, opcodes, queues, sequence
/// numbers, offsets, lengths, and that read responses answer what was asked. Keys, bounds and rights
/// are the user's to check, with the event at hand.
///
/// Without checksums and markers a segment is handed out as its bytes come, so that no more than a
/// header is ever kept back; otherwise an FPDU is looked at once all of it is there.
@safe
public final class StreamReceiver {
  public struct Options: Sendable {
    public var hasMarkers = false
    public var hasChecksums = true
    /// RDMA reads that the peer may have under way at once.
    public var inboundReadDepth = 0
    /// RFC 7306's immediate data is understood.
    public var takesImmediate = true
    public init() {}
  }

  /// Bytes that any header fits in, with the length in front.
  static let headByteCount = 2 + SegmentHeader.untaggedByteCount
  static let immediateByteCount = 8

  private(set) var options: Options
  private var reader: FPDUReader
  /// What the next message of each queue is numbered.
  var nextSend: UInt32 = 1
  var nextReadRequest: UInt32 = 1
  /// The send under way: its bytes so far, and what it is.
  var sendOffset: UInt32 = 0
  var isSendOpen = false
  var sendOpcode = MessageOpcode.send
  /// The write under way, and the one that has just ended.
  var writeByteCount = 0
  var isWriteOpen = false
  var lastWriteByteCount: Int?
  var reads = ReadsUnderWay()
  /// Requests of the peer that are not answered yet.
  var unansweredReadCount = 0
  /// A segment of which only a part has come.
  private var open: OpenSegment?
  /// The segment at hand, for a terminate message.
  private var faultByteCount: UInt16 = 0
  private var faultHeaderByteCount = 0
  /// Header, and behind it a read request where there is one.
  private let faultBytes: UnsafeMutableRawPointer
  private var hasFaultReadRequest = false

  struct OpenSegment {
    var event: StreamEvent.Kind
    var opcode: MessageOpcode
    var isLast: Bool
    var key: RemoteKey
    var target: UInt64
    var messageOffset: UInt32
    var payloadLeft: Int
    /// Padding and checksum.
    var trailerByteCount: Int
  }

  public init(_ options: Options = Options()) {
    self.options = options
    reader = FPDUReader(markers: options.hasMarkers, checksums: options.hasChecksums)
    unsafe faultBytes = .allocate(byteCount: 64, alignment: 16)
  }

  /// Takes what the start-up has agreed on; before the first byte.
  public func begin(_ options: Options) {
    self.options = options
    reader = FPDUReader(markers: options.hasMarkers, checksums: options.hasChecksums)
  }

  deinit { unsafe faultBytes.deallocate() }

  /// Brings near what the next segment's header is kept in.
  public func prefetch() { unsafe FabricPlatform.prefetch(faultBytes, byteCount: 64) }

  // MARK: What the other half tells

  /// This side has asked for an RDMA read; its response is expected behind those of earlier ones.
  public func expectReadResponse(key: RemoteKey, offset: UInt64, byteCount: Int) {
    reads.append(.init(key: key, offset: offset, byteCount: byteCount))
  }

  /// One of the peer's requests was answered.
  public func readWasAnswered() { unansweredReadCount -= 1 }

  // MARK: Bytes

  /// Payload that may be read straight to where it goes, from the event's `target` or
  /// `messageOffset` on; 0 when the next byte is a header's.
  public var directByteCount: Int { open?.payloadLeft ?? 0 }

  /// What the payload that may be read straight to its place belongs to.
  public var directPlace: (kind: StreamEvent.Kind, key: RemoteKey, target: UInt64, offset: UInt32)?
  {
    guard let open, open.payloadLeft > 0 else { return nil }
    return (open.event, open.key, open.target, open.messageOffset)
  }

  /// So many bytes were read straight to their place.
  public func tookDirectly(_ byteCount: Int) {
    guard var segment = open else { preconditionFailure("no segment is under way") }
    precondition(byteCount <= segment.payloadLeft, "more than the segment has")
    advance(&segment, byteCount)
    open = segment
  }

  /// Looks at the bytes behind those that earlier events consumed.
  ///
  /// - Parameter canReceive: whether a receive is posted that a new message may take.
  public func next(
    _ bytes: WireView, canReceive: Bool
  ) throws(StreamViolation) -> StreamEvent {
    if let open { return carryOn(open, bytes) }
    if options.hasMarkers { return try nextMarked(bytes, canReceive: canReceive) }
    guard bytes.byteCount >= 2 else { return needs(2, bytes) }
    let count = Int(bytes.bigUInt16(at: 0))
    let padded = FPDUWriter.paddedByteCount(count)
    let total = padded + 4
    guard bytes.byteCount >= min(Self.headByteCount, total) else {
      return needs(min(Self.headByteCount, total), bytes)
    }
    let isWhole = bytes.byteCount >= total
    if options.hasChecksums {
      guard isWhole else { return needs(total, bytes) }
      var checksum = Checksum()
      unsafe checksum.add(bytes.slice(0, padded).rawBytes)
      guard checksum.value == bytes.uint32(at: padded) else {
        throw fault(TerminateCause.MPA.checksum)
      }
    }
    if count == 0 { return consumed(total, needsAll: isWhole, bytes) }
    if isWhole && canReceive, var event = wholeSend(bytes.slice(2, count)) {
      event.consumedByteCount = total
      return event
    }
    let here = min(count, bytes.byteCount - 2)
    var event = try look(
      at: bytes.slice(2, here), of: count, trailerByteCount: total - 2 - count, isWhole: isWhole,
      canReceive: canReceive)
    switch event.kind {
    case .needsMore: event.neededByteCount = total
    case .needsReceive: break
    default: event.consumedByteCount = isWhole ? total : 2 + here
    }
    return event
  }

  /// Most segments are all of a message for a receive: nil when this one is not, or is not what
  /// comes next, which `look` finds.
  @inline(__always)
  private func wholeSend(_ segment: WireView) -> StreamEvent? {
    guard !isSendOpen, SegmentHeader.isWholeSend(segment, sequence: nextSend) else { return nil }
    remember(segment, segment.byteCount)
    nextSend &+= 1
    lastWriteByteCount = nil
    let headerByteCount = SegmentHeader.untaggedByteCount
    var event = StreamEvent(
      .send, payload: segment.slice(headerByteCount, segment.byteCount &- headerByteCount))
    event.opcode = .send
    event.key = RemoteKey(rawValue: segment.bigUInt32(at: 2))
    event.segmentByteCount = event.payload.byteCount
    event.isFirst = true
    event.isLast = true
    return event
  }

  /// An FPDU without a segment.
  private func consumed(_ total: Int, needsAll isWhole: Bool, _ bytes: WireView) -> StreamEvent {
    guard isWhole else { return needs(total, bytes) }
    var event = StreamEvent(.empty, payload: bytes.slice(0, 0))
    event.consumedByteCount = total
    return event
  }

  private func needs(_ byteCount: Int, _ bytes: WireView) -> StreamEvent {
    var event = StreamEvent(.needsMore, payload: bytes.slice(0, 0))
    event.neededByteCount = byteCount
    return event
  }

  private func nextMarked(
    _ bytes: WireView, canReceive: Bool
  ) throws(StreamViolation) -> StreamEvent {
    let before = reader
    var segment: WireView?
    let taken: Int?
    do throws(FPDUReader.Fault) {
      taken = try reader.take(from: bytes) { segment = $0 }
    } catch {
      throw fault(error.cause)
    }
    guard let taken, let segment else { return needs(bytes.byteCount + 1, bytes) }
    guard segment.byteCount > 0 else { return consumed(taken, needsAll: true, bytes) }
    var event = try look(
      at: segment, of: segment.byteCount, trailerByteCount: 0, isWhole: true,
      canReceive: canReceive)
    if event.kind == .needsReceive {
      reader = before
    } else {
      event.consumedByteCount = taken
    }
    return event
  }

  // MARK: Segments

  /// - Parameters:
  ///   - here: as much of the segment as has come, a whole header at least.
  ///   - count: bytes of the segment.
  private func look(
    at here: WireView, of count: Int, trailerByteCount: Int, isWhole: Bool, canReceive: Bool
  ) throws(StreamViolation) -> StreamEvent {
    remember(here, count)
    let header: SegmentHeader
    do throws(SegmentHeader.Malformed) {
      header = try SegmentHeader(here)
    } catch {
      throw StreamViolation(error.cause)
    }
    let headerByteCount = header.byteCount
    let payload = here.slice(headerByteCount, here.byteCount - headerByteCount)
    var event = StreamEvent(.write, payload: payload)
    event.opcode = header.opcode
    event.segmentByteCount = count - headerByteCount
    switch header.place {
    case .tagged(let key, let offset):
      event.key = key
      event.target = offset
      try takeTagged(header, &event)
    case .untagged(let queue, let sequence, let offset, let invalidates):
      event.key = invalidates
      event.messageOffset = offset
      guard
        try takeUntagged(
          header, queue: queue, sequence: sequence, isWhole: isWhole, canReceive: canReceive,
          &event)
      else { return event }
    }
    if isWhole {
      event.isLast = header.isLast
    } else {
      var segment = OpenSegment(
        event: event.kind, opcode: header.opcode, isLast: header.isLast, key: event.key,
        target: event.target, messageOffset: event.messageOffset,
        payloadLeft: event.segmentByteCount, trailerByteCount: trailerByteCount)
      advance(&segment, payload.byteCount)
      open = segment
    }
    return event
  }

  // MARK: A segment that comes in pieces

  private func advance(_ segment: inout OpenSegment, _ byteCount: Int) {
    segment.payloadLeft -= byteCount
    segment.target &+= UInt64(byteCount)
    segment.messageOffset &+= UInt32(truncatingIfNeeded: byteCount)
  }

  private func carryOn(_ segment: OpenSegment, _ bytes: WireView) -> StreamEvent {
    var segment = segment
    let here = min(segment.payloadLeft, bytes.byteCount)
    let isWhole = bytes.byteCount >= segment.payloadLeft + segment.trailerByteCount
    guard here > 0 || isWhole else { return needs(segment.trailerByteCount, bytes) }
    var event = StreamEvent(segment.event, payload: bytes.slice(0, here))
    event.opcode = segment.opcode
    event.key = segment.key
    event.target = segment.target
    event.messageOffset = segment.messageOffset
    event.segmentByteCount = segment.payloadLeft
    event.consumedByteCount = here
    if isWhole {
      event.consumedByteCount += segment.trailerByteCount
      event.isLast = segment.isLast
      open = nil
    } else {
      advance(&segment, here)
      open = segment
    }
    return event
  }

  // MARK: Faults

  /// What ends the connection because of the segment that the last event belongs to.
  public func terminateMessage(_ cause: TerminateCause) -> TerminateMessage {
    let count = faultHeaderByteCount
    guard cause.layer != 2, count > 0 else { return TerminateMessage(cause) }
    let header = unsafe WireView(faultBytes, byteCount: count).array
    let request = unsafe WireView(
      faultBytes + Self.faultReadRequestOffset, byteCount: ReadRequestHeader.byteCount)
    return TerminateMessage(
      cause,
      segment: .init(
        byteCount: faultByteCount, header: header,
        readRequest: hasFaultReadRequest ? request.array : nil))
  }

  /// A fault of the framing has no segment.
  private func fault(_ cause: TerminateCause) -> StreamViolation {
    faultHeaderByteCount = 0
    return StreamViolation(cause)
  }

  private func remember(_ here: WireView, _ count: Int) {
    hasFaultReadRequest = false
    faultHeaderByteCount = 0
    guard here.byteCount > 0 else { return }
    let isTagged = here.uint8(at: 0) & 0x80 != 0
    let byteCount = isTagged ? SegmentHeader.taggedByteCount : SegmentHeader.untaggedByteCount
    guard here.byteCount >= byteCount else { return }
    faultByteCount = UInt16(truncatingIfNeeded: count)
    faultHeaderByteCount = byteCount
    unsafe copyShort(to: faultBytes, from: here.rawBytes.baseAddress!, byteCount: byteCount)
  }

  private static let faultReadRequestOffset = 24

  func rememberReadRequest(_ payload: WireView) {
    hasFaultReadRequest = true
    unsafe copyShort(
      to: faultBytes + Self.faultReadRequestOffset, from: payload.rawBytes.baseAddress!,
      byteCount: ReadRequestHeader.byteCount)
  }
}

extension MessageOpcode {
  /// The queue of an untagged message.
  public var queue: UntaggedQueue? {
    switch self {
    case .write, .readResponse: nil
    case .readRequest: .readRequests
    case .terminate: .terminate
    default: .sends
    }
  }
}

extension SegmentHeader.Malformed {
  /// As a terminate message says it.
  public var cause: TerminateCause {
    switch self {
    case .short: TerminateCause.RDMAP.unspecifiedOperation
    case .ddpVersion(let isTagged):
      isTagged ? TerminateCause.DDP.taggedVersion : TerminateCause.DDP.untaggedVersion
    case .rdmapVersion: TerminateCause.RDMAP.version
    case .opcode: TerminateCause.RDMAP.unexpectedOpcode
    }
  }
}
