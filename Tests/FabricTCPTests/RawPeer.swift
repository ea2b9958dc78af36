import FabricIWARP
import FabricPlatform
import FabricTCP
import FabricVerbs
import FabricWire
import Testing

/// A peer that puts whatever it likes into the stream.
final class RawPeer {
  let socket: StreamSocket
  private var writer: FPDUWriter
  private var reader: FPDUReader
  private var bytes: [UInt8] = []
  /// The other side's answer, once it was taken.
  private(set) var reply: StartFrame?

  /// Connects, and does the start-up unless told not to.
  init(to endpoint: String, checksums: Bool = true, startsUp: Bool = true) throws {
    socket = try StreamSocket.connect(to: InternetAddress.resolve(endpoint)[0])
    writer = FPDUWriter(markers: false, checksums: checksums)
    reader = FPDUReader(markers: false, checksums: checksums)
    try Self.wait("connected") { socket.connectError == nil && socket.send([UInt8]()) == .bytes(0) }
    if startsUp {
      var request = StartFrame(.request)
      request.wantsChecksums = checksums
      request.revision = 1
      send(request.bytes)
    }
  }

  /// Takes the reply to the request.
  @discardableResult
  func takeReply() throws -> StartFrame {
    var frame: StartFrame?
    try Self.wait("a reply") {
      _ = socket.receive(into: &bytes, limit: 4096)
      guard !bytes.isEmpty else { return false }
      frame = try unsafe bytes.withUnsafeBytes { raw in
        try StartFrame.read(.reply, from: unsafe WireView(raw))
      }.map { found in
        bytes.removeFirst(found.byteCount)
        return found.frame
      }
      return frame != nil
    }
    let found = try #require(frame)
    reply = found
    return found
  }

  func send(_ bytes: [UInt8]) {
    var rest = bytes[...]
    while !rest.isEmpty {
      switch socket.send(rest) {
      case .bytes(let count): rest = rest.dropFirst(count)
      case .wouldBlock: SystemThread.yield()
      default: return
      }
    }
  }

  /// An FPDU around the segment.
  func fpdu(_ segment: [UInt8]) -> [UInt8] {
    var out: [UInt8] = []
    unsafe segment.withUnsafeBytes { writer.append(unsafe WireView($0), to: &out) }
    return out
  }

  static func segment(_ header: SegmentHeader, _ payload: [UInt8] = []) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: header.byteCount)
    unsafe bytes.withUnsafeMutableBytes { header.write(to: unsafe WireBuffer($0)) }
    return bytes + payload
  }

  static func untagged(
    _ opcode: MessageOpcode, queue: UInt32? = nil, sequence: UInt32 = 1, offset: UInt32 = 0,
    isLast: Bool = true, key: UInt32 = 0, _ payload: [UInt8] = []
  ) -> [UInt8] {
    segment(
      SegmentHeader(
        opcode, isLast: isLast,
        place: .untagged(
          queue: queue ?? opcode.queue!.rawValue, sequence: sequence, offset: offset,
          invalidates: RemoteKey(rawValue: key))), payload)
  }

  static func tagged(
    _ opcode: MessageOpcode = .write, key: UInt32, offset: UInt64, isLast: Bool = true,
    _ payload: [UInt8] = []
  ) -> [UInt8] {
    segment(
      SegmentHeader(
        opcode, isLast: isLast,
        place: .tagged(key: RemoteKey(rawValue: key), offset: offset)), payload)
  }

  /// The next segment from the other side; nil when the stream has ended.
  func nextSegment(_ pump: () -> Void) throws -> [UInt8]? {
    var segment: [UInt8]?
    var isOver = false
    try Self.wait("a segment or the end") {
      pump()
      switch socket.receive(into: &bytes, limit: 1 << 16) {
      case .bytes, .wouldBlock: break
      case .end, .failed: isOver = true
      }
      guard !bytes.isEmpty else { return isOver }
      let taken = try unsafe bytes.withUnsafeBytes { raw in
        try reader.take(from: unsafe WireView(raw)) { segment = $0.array }
      }
      if let taken { bytes.removeFirst(taken) }
      return segment != nil || isOver
    }
    return segment
  }

  /// Why the other side ends the connection.
  func terminateCause(_ pump: () -> Void) throws -> TerminateCause? {
    while let segment = try nextSegment(pump) {
      let cause = try unsafe segment.withUnsafeBytes { raw -> TerminateCause? in
        let view = unsafe WireView(raw)
        let header = try SegmentHeader(view)
        guard header.opcode == .terminate else { return nil }
        return TerminateMessage(
          view.slice(header.byteCount, view.byteCount - header.byteCount))?.cause
      }
      if let cause { return cause }
    }
    return nil
  }

  static func wait(_ words: String, _ condition: () throws -> Bool) throws {
    let deadline = MonotonicTime.now + .seconds(10)
    while try !condition() {
      try #require(MonotonicTime.now < deadline, "within 10 s: \(words)")
      SystemThread.yield()
    }
  }
}
