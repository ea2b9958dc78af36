import FabricIWARP
import FabricVerbs
import FabricWire
import TestSupport
import Testing

@Suite("iWARP: golden bytes")
struct GoldenTests {
  let golden: [String: [UInt8]]

  init() throws { golden = try goldenVectors("iwarp.txt") }

  // MARK: Start frames

  static let startFrames: [String: StartFrame] = {
    func frame(
      _ kind: StartFrame.Kind, _ revision: UInt8, _ data: String, _ depths: (UInt16, UInt16)? = nil,
      isRejected: Bool = false
    ) -> StartFrame {
      var frame = StartFrame(kind)
      frame.wantsChecksums = true
      frame.revision = revision
      frame.isRejected = isRejected
      frame.privateData = Array(data.utf8)
      frame.limits = depths.map { .init(inboundReadDepth: $0, outboundReadDepth: $1) }
      return frame
    }
    var peerRequest = frame(.request, 2, "", (8, 16))
    peerRequest.wantsMarkers = true
    peerRequest.limits?.isPeerToPeer = true
    peerRequest.limits?.readyToReceive = [.emptyFPDU, .emptyWrite, .emptyRead]
    var peerReply = frame(.reply, 2, "", (4, 8))
    peerReply.limits?.isPeerToPeer = true
    peerReply.limits?.readyToReceive = .emptyWrite
    return [
      "plain request": frame(.request, 1, "hello"),
      "plain reply": frame(.reply, 1, "ok"),
      "plain rejection": frame(.reply, 1, "no", isRejected: true),
      "enhanced request": frame(.request, 2, "hello", (8, 16)),
      "enhanced reply": frame(.reply, 2, "ok", (4, 8)),
      "enhanced rejection": frame(.reply, 2, "no", (4, 8), isRejected: true),
      "peer-to-peer request": peerRequest,
      "peer-to-peer reply": peerReply,
    ]
  }()

  @Test("IW-1, IW-2: start frames are these bytes", arguments: startFrames.keys.sorted())
  func startFrame(name: String) throws {
    let frame = try #require(Self.startFrames[name])
    let bytes = try #require(golden[name])
    #expect(frame.bytes == bytes)
    let read = try withView(bytes) { try StartFrame.read(frame.kind, from: $0)?.frame }
    #expect(read == frame)
  }

  @Test("IW-5 to IW-9: the start-up says these bytes")
  func startUp() {
    var initiator = StartUp.Options()
    initiator.inboundReadDepth = 8
    initiator.outboundReadDepth = 16
    var responder = StartUp.Options()
    responder.inboundReadDepth = 4
    responder.outboundReadDepth = 32
    func check(_ request: String, _ reply: String, _ data: String, _ answer: String, isGood: Bool) {
      var pair = StartUpPair(initiator, responder, Array(data.utf8))
      pair.run(answer: {
        isGood
          ? $0.accept(privateData: Array(answer.utf8)) : $0.reject(privateData: Array(answer.utf8))
      })
      #expect(pair.request == golden[request])
      #expect(pair.reply == golden[reply])
    }
    check("enhanced request", "enhanced reply", "hello", "ok", isGood: true)
    check("enhanced request", "enhanced rejection", "hello", "no", isGood: false)
    initiator.isPeerToPeer = true
    initiator.wantsMarkers = true
    initiator.readyToReceive = [.emptyFPDU, .emptyWrite, .emptyRead]
    check("peer-to-peer request", "peer-to-peer reply", "", "", isGood: true)
    initiator = .init()
    initiator.isEnhanced = false
    check("plain request", "plain reply", "hello", "ok", isGood: true)
    check("plain request", "plain rejection", "hello", "no", isGood: false)
  }

  // MARK: FPDUs

  static let fpdus: [String: (segment: String?, markers: Bool, checksums: Bool)] = [
    "empty FPDU": (nil, false, true),
    "FPDU without checksum": ("send", false, false),
    "FPDU with checksum": ("send", false, true),
    "FPDU with marker": ("send", true, true),
    "FPDU with two markers": ("sevens", true, true),
  ]

  @Test("IW-3, IW-4: FPDUs are these bytes", arguments: fpdus.keys.sorted())
  func fpdu(name: String) throws {
    let (content, markers, checksums) = try #require(Self.fpdus[name])
    let segment =
      content == "sevens"
      ? [UInt8](repeating: 7, count: 520) : content.flatMap { golden[$0] } ?? []
    let expected = try #require(golden[name])
    var writer = FPDUWriter(markers: markers, checksums: checksums)
    var bytes: [UInt8] = []
    withView(segment) { writer.append($0, to: &bytes) }
    #expect(bytes == expected)
    var reader = FPDUReader(markers: markers, checksums: checksums)
    var read: [UInt8]?
    let taken = try withView(expected) { try reader.take(from: $0) { read = $0.array } }
    #expect(taken == expected.count && read == segment)
  }

  // MARK: Segments

  private static let key = RemoteKey(rawValue: 0x0102_0304)
  private static let offset: UInt64 = 0x1112_1314_1516_1718
  private static let readRequest = ReadRequestHeader(
    sinkKey: key, sinkOffset: offset, byteCount: 100,
    sourceKey: RemoteKey(rawValue: 0x0506_0708), sourceOffset: 0x2122_2324_2526_2728)

  static let segments: [String: (header: SegmentHeader, payload: [UInt8])] = {
    func tagged(_ opcode: MessageOpcode, _ text: String, isLast: Bool = true) -> (
      SegmentHeader, [UInt8]
    ) {
      (
        SegmentHeader(opcode, isLast: isLast, place: .tagged(key: key, offset: offset)),
        Array(text.utf8)
      )
    }
    func untagged(
      _ opcode: MessageOpcode, _ payload: [UInt8], queue: UntaggedQueue = .sends,
      sequence: UInt32 = 1, offset: UInt32 = 0, invalidates: UInt32 = 0, isLast: Bool = true
    ) -> (SegmentHeader, [UInt8]) {
      (
        SegmentHeader(
          opcode, isLast: isLast,
          place: .untagged(
            queue: queue.rawValue, sequence: sequence, offset: offset,
            invalidates: RemoteKey(rawValue: invalidates))), payload
      )
    }
    let hello = Array("hello".utf8)
    let empty = SegmentHeader(
      .write, isLast: true, place: .tagged(key: RemoteKey(rawValue: 0), offset: 0))
    let request = written(ReadRequestHeader.byteCount, readRequest.write)
    let requestSegment = untagged(.readRequest, request, queue: .readRequests)
    let bare = tagged(.write, "")
    func terminate(_ message: TerminateMessage) -> (SegmentHeader, [UInt8]) {
      untagged(.terminate, message.bytes, queue: .terminate)
    }
    func bytes(_ header: SegmentHeader) -> [UInt8] { written(header.byteCount, header.write) }
    return [
      "write": tagged(.write, "data"),
      "write, not last": tagged(.write, "data", isLast: false),
      "empty write": (empty, []),
      "send": untagged(.send, hello),
      "send, second part": untagged(
        .send, Array("lo".utf8), sequence: 0x0102_0304, offset: 0x0506_0708, isLast: false),
      "send with invalidate": untagged(
        .sendWithInvalidate, hello, sequence: 2, invalidates: 0xdead_beef),
      "send with solicited event": untagged(.sendWithSolicitedEvent, hello, sequence: 3),
      "send with solicited event and invalidate": untagged(
        .sendWithSolicitedEventAndInvalidate, hello, sequence: 4, invalidates: 0xdead_beef),
      "read request": requestSegment,
      "read response": tagged(.readResponse, "data"),
      "immediate": untagged(.immediate, [1, 2, 3, 4, 5, 6, 7, 8], sequence: 5),
      "immediate with solicited event": untagged(
        .immediateWithSolicitedEvent, [1, 2, 3, 4, 5, 6, 7, 8], sequence: 6),
      "terminate, checksum": terminate(TerminateMessage(TerminateCause.MPA.checksum)),
      "terminate, no right to write": terminate(
        TerminateMessage(
          TerminateCause.RDMAP.noRight, segment: .init(byteCount: 18, header: bytes(bare.0)))),
      "terminate, read out of bounds": terminate(
        TerminateMessage(
          TerminateCause.RDMAP.outOfBounds,
          segment: .init(
            byteCount: 46, header: bytes(requestSegment.0), readRequest: request))),
      "terminate, no receive": terminate(
        TerminateMessage(
          TerminateCause.DDP.noReceive,
          segment: .init(byteCount: 23, header: bytes(untagged(.send, hello).0)))),
    ]
  }()

  @Test(
    "IW-10, IW-11, IW-20, IW-21: segments are these bytes", arguments: segments.keys.sorted())
  func segment(name: String) throws {
    let (header, payload) = try #require(Self.segments[name])
    let expected = try #require(golden[name])
    #expect(written(header.byteCount, header.write) + payload == expected)
    #expect(try withView(expected) { try SegmentHeader($0) } == header)
    let rest = Array(expected[header.byteCount...])
    if header.opcode == .readRequest {
      #expect(withView(rest) { ReadRequestHeader($0) } == Self.readRequest)
    }
    if header.opcode == .terminate {
      #expect(withView(rest) { TerminateMessage($0)?.bytes } == rest)
    }
  }

  @Test("IW-11: there are golden bytes of every kind of message, and none that nothing reads")
  func complete() {
    #expect(Set(Self.segments.values.map(\.header.opcode)) == Set(MessageOpcode.allCases))
    let read = Set(Self.startFrames.keys).union(Self.fpdus.keys).union(Self.segments.keys)
    #expect(Set(golden.keys) == read)
  }
}
