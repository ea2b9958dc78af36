import FabricPlatform
import FabricWire

/// The stream to a front end: whole messages with their descriptors. Never waits.
@safe
final class FrontEndSocket {
  /// What `next` found.
  enum Next {
    /// A message, whose payload lies in `payload` until the next one.
    case message(MessageHeader, [PassedDescriptor])
    case nothing
    case hangUp
    case fault(VhostUserFault)
  }

  let socket: StreamSocket
  private let room: UnsafeMutableRawBufferPointer
  private var received = 0
  private var header: MessageHeader?
  private var descriptors: [PassedDescriptor] = []

  init(_ socket: StreamSocket) {
    self.socket = socket
    unsafe room = .allocate(
      byteCount: VhostUser.headerByteCount + VhostUser.payloadLimit, alignment: 16)
  }

  deinit { unsafe room.deallocate() }

  /// Of the last message.
  func payload(of header: MessageHeader) -> WireView {
    unsafe WireView(
      UnsafeRawPointer(room.baseAddress! + VhostUser.headerByteCount),
      byteCount: Int(header.byteCount))
  }

  /// The next message, if all of it has come. Takes no byte beyond it, so that descriptors are those of
  /// their own message.
  func next() -> Next {
    while true {
      let needed = VhostUser.headerByteCount + Int(header?.byteCount ?? 0)
      if let header, received == needed {
        defer {
          self.header = nil
          received = 0
          descriptors = []
        }
        return .message(header, descriptors)
      }
      let rest = unsafe UnsafeMutableRawBufferPointer(rebasing: room[received..<needed])
      switch unsafe socket.receivePassing(rest) {
      case .nothing: return .nothing
      case .hangUp: return .hangUp
      case .bytes(let count, let passed, let isTruncated):
        descriptors += passed
        guard !isTruncated, descriptors.count <= StreamSocket.maximumPassedCount else {
          return .fault(.tooManyDescriptors)
        }
        received += count
      }
      guard header == nil, received == VhostUser.headerByteCount else { continue }
      do throws(VhostUserFault) {
        header = try unsafe MessageHeader(
          decoding: WireView(
            UnsafeRawPointer(room.baseAddress!), byteCount: VhostUser.headerByteCount))
      } catch { return .fault(error) }
    }
  }

  /// Answers a message.
  ///
  /// - Throws: `.wouldBlock` when the front end takes no answers, else why it is gone.
  func reply(
    to code: UInt32, byteCount: Int, descriptors: [CInt] = [], _ write: (WireBuffer) -> Void
  ) throws(Errno) {
    try Self.send(
      MessageHeader(code: code, flags: VhostUser.replyFlag, byteCount: byteCount), to: socket,
      descriptors: descriptors, write)
  }

  static func send(
    _ header: MessageHeader, to socket: StreamSocket, descriptors: [CInt] = [],
    _ write: (WireBuffer) -> Void = { _ in }
  ) throws(Errno) {
    let total = VhostUser.headerByteCount + Int(header.byteCount)
    let result = unsafe withUnsafeTemporaryAllocation(byteCount: total, alignment: 8) {
      bytes -> Result<Void, Errno> in
      let buffer = unsafe WireBuffer(bytes)
      header.encode(into: buffer)
      write(buffer.slice(VhostUser.headerByteCount, Int(header.byteCount)))
      do throws(Errno) {
        try unsafe socket.sendPassing(UnsafeRawBufferPointer(bytes), descriptors: descriptors)
        return .success(())
      } catch { return .failure(error) }
    }
    try result.get()
  }
}
