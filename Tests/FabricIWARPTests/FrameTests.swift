import FabricIWARP
import FabricVerbs
import FabricWire
import Testing

@Suite("iWARP: frames")
struct FrameTests {
  @Test("IW-1, IW-2: what two Linux ends say first is read, and written back byte by byte")
  func startFrames() throws {
    let payloads = try Capture.rping().payloads
    for (payload, kind) in zip(payloads, [StartFrame.Kind.request, .reply]) {
      let (frame, count) = try #require(try read(kind, payload.bytes))
      #expect(count == payload.bytes.count)
      #expect(frame.revision == 2 && !frame.wantsMarkers && !frame.wantsChecksums)
      #expect(frame.limits == .init(inboundReadDepth: 1, outboundReadDepth: 1))
      #expect(frame.privateData.isEmpty)
      #expect(frame.bytes == payload.bytes)
      // In pieces: nothing before the last byte.
      for end in 0..<payload.bytes.count {
        #expect(try read(kind, Array(payload.bytes[..<end])) == nil)
      }
    }
  }

  @Test("IW-1, IW-2: every flag is written and read")
  func flags() throws {
    var frame = StartFrame(.reply)
    frame.wantsMarkers = true
    frame.wantsChecksums = true
    frame.isRejected = true
    frame.limits = .init(inboundReadDepth: 0x3fff, outboundReadDepth: 7)
    frame.limits?.isPeerToPeer = true
    frame.limits?.readyToReceive = [.emptyFPDU, .emptyRead]
    frame.privateData = [1, 2, 3]
    #expect(
      frame.bytes[16...] == [0xf0, 2, 0, 7, 0xff, 0xff, 0x40, 7, 1, 2, 3])
    #expect(try read(.reply, frame.bytes)?.frame == frame)
    var old = StartFrame(.request)
    old.revision = 1
    old.privateData = Array(repeating: 9, count: 512)
    #expect(try read(.request, old.bytes + [1])?.frame == old)
    #expect(try read(.request, old.bytes + [1])?.byteCount == 532)
  }

  @Test("IW-1: bytes that are no start frame are refused as soon as they show it")
  func malformed() throws {
    let good = StartFrame(.request).bytes
    #expect(throws: StartFrame.Malformed.key) { try read(.request, [0x47]) }
    #expect(throws: StartFrame.Malformed.key) { try read(.reply, Array(good[..<12])) }
    func changed(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
      var bytes = good
      change(&bytes)
      return bytes
    }
    #expect(throws: StartFrame.Malformed.revision(3)) {
      try read(.request, changed { $0[17] = 3 })
    }
    #expect(throws: StartFrame.Malformed.privateDataTooLong(513)) {
      try read(.request, changed { ($0[18], $0[19]) = (2, 1) })
    }
    #expect(throws: StartFrame.Malformed.limits) {
      try read(.request, changed { $0[16] = 0x10 })
    }
  }

  @Test("IW-10, IW-11, IW-20: the segments of two Linux ends are read, and written back")
  func segments() throws {
    var seen: Set<MessageOpcode> = []
    for payload in try Capture.rping().payloads.dropFirst(2) {
      // Length of the segment in front; padding and checksum behind it.
      let count = Int(payload.bytes[0]) << 8 | Int(payload.bytes[1])
      #expect(payload.bytes.count == (2 + count + 3) / 4 * 4 + 4)
      let segment = Array(payload.bytes[2..<2 + count])
      let header = try withView(segment) { try SegmentHeader($0) }
      seen.insert(header.opcode)
      #expect(header.isLast)
      #expect(written(header.byteCount, header.write) == Array(segment[..<header.byteCount]))
      switch (header.opcode, header.place) {
      case (.send, .untagged(let queue, let sequence, 0, _)):
        #expect(queue == UntaggedQueue.sends.rawValue && sequence > 0)
        #expect(count - header.byteCount == 16)
      case (.readRequest, .untagged(let queue, let sequence, 0, _)):
        #expect(queue == UntaggedQueue.readRequests.rawValue && sequence > 0)
        let rest = Array(segment[header.byteCount...])
        let request = try #require(withView(rest) { ReadRequestHeader($0) })
        #expect(request.readByteCount == 100)
        #expect(written(ReadRequestHeader.byteCount, request.write) == rest)
        #expect(withView(Array(rest.dropLast())) { ReadRequestHeader($0) } == nil)
      case (.write, .tagged), (.readResponse, .tagged):
        #expect(count - header.byteCount == 100)
      default: Issue.record("an unexpected segment \(header)")
      }
    }
    #expect(seen == [.send, .readRequest, .readResponse, .write])
  }

  @Test("IW-10, IW-11: headers that are none say what is wrong with them")
  func badHeaders() throws {
    func fault(_ bytes: [UInt8]) -> SegmentHeader.Malformed? {
      do throws(SegmentHeader.Malformed) {
        _ = try withView(bytes) { view throws(SegmentHeader.Malformed) in try SegmentHeader(view) }
        return nil
      } catch { return error }
    }
    let send = SegmentHeader(
      .send, isLast: false,
      place: .untagged(
        queue: 0, sequence: 1, offset: 0, invalidates: RemoteKey(rawValue: 0)))
    let bytes = written(send.byteCount, send.write)
    #expect(fault(bytes) == nil)
    for count in 0..<bytes.count { #expect(fault(Array(bytes[..<count])) == .short) }
    #expect(fault([0x02] + bytes[1...]) == .ddpVersion(isTagged: false))
    #expect(fault([0x80] + bytes[1...]) == .ddpVersion(isTagged: true))
    #expect(fault([bytes[0], 0x83] + bytes[2...]) == .rdmapVersion)
    #expect(fault([bytes[0], 0x4f] + bytes[2...]) == .opcode)
    #expect(fault([0x81] + bytes[1...]) == .opcode, "a send in a tagged segment")
    #expect(fault([bytes[0], 0x40] + bytes[2...]) == .opcode, "a write in an untagged one")
  }

  @Test("IW-21: a terminate message is these bytes, whole or not at all")
  func terminate() throws {
    let bare = TerminateMessage(TerminateCause.MPA.checksum)
    #expect(bare.bytes == [0x20, 2, 0, 0])
    let header = [0xc1, 0x40, 0, 0, 0, 7] + [UInt8](repeating: 3, count: 8)
    let write = TerminateMessage(
      TerminateCause.RDMAP.noRight, segment: .init(byteCount: 0x0102, header: header))
    #expect(write.bytes == [0x01, 2, 0xc0, 0, 1, 2] + header)
    let untagged = [0x41, 0x41] + [UInt8](repeating: 5, count: 16)
    let read = TerminateMessage(
      TerminateCause.RDMAP.outOfBounds,
      segment: .init(
        byteCount: 46, header: untagged, readRequest: [UInt8](repeating: 6, count: 28)))
    #expect(read.bytes.count == TerminateMessage.maximumByteCount)
    for message in [bare, write, read] {
      let bytes = message.bytes
      #expect(withView(bytes) { TerminateMessage($0) } == message)
      for count in 0..<bytes.count {
        #expect(withView(Array(bytes[..<count])) { TerminateMessage($0) } == nil)
      }
    }
    // A cause that nobody has defined, and no segment: the length alone names none.
    let strange = withView([0x9f, 0xee, 0x80, 0, 0, 1]) { TerminateMessage($0) }
    #expect(strange == TerminateMessage(TerminateCause(layer: 9, type: 15, code: 0xee)))
  }

  private func read(
    _ kind: StartFrame.Kind, _ bytes: [UInt8]
  ) throws(StartFrame.Malformed) -> (frame: StartFrame, byteCount: Int)? {
    try withView(bytes) { view throws(StartFrame.Malformed) in
      try StartFrame.read(kind, from: view)
    }
  }
}
