public import FabricVerbs
public import FabricWire

/// What the next bytes of a stream ask for.
@safe
public struct StreamEvent: Sendable {
  public enum Kind: Sendable {
    /// Nothing yet: at least `neededByteCount` bytes must be there, and were not consumed.
    case needsMore
    /// A message begins that needs a receive, and none is posted; nothing was consumed.
    case needsReceive
    /// An FPDU without a segment.
    case empty
    /// Payload of an RDMA write for `key` and `target`.
    case write
    /// Payload of a send, `messageOffset` bytes into the message.
    case send
    /// Immediate data; consumes a receive and fills none.
    case immediate
    /// The peer asks for `readRequest`.
    case readRequest
    /// Payload of the response to the oldest RDMA read that is under way.
    case readResponse
    /// The peer ends the connection with `terminate`.
    case terminate
  }

  public internal(set) var kind: Kind
  /// Bytes of the stream that are over.
  public internal(set) var consumedByteCount = 0
  public internal(set) var neededByteCount = 0
  /// Valid until the bytes that were given change or the next call.
  public internal(set) var payload: WireView
  /// Payload bytes from here to the end of the segment; more than `payload` has while some are
  /// still on their way.
  public internal(set) var segmentByteCount = 0
  /// Begins its message.
  public internal(set) var isFirst = false
  /// Ends its message: all of it has come.
  public internal(set) var isLast = false
  public internal(set) var opcode = MessageOpcode.write
  /// A tagged segment's steering tag, or what a send with invalidate names.
  public internal(set) var key = RemoteKey(rawValue: 0)
  /// Where the payload's first byte goes, in the terms of `key`.
  public internal(set) var target: UInt64 = 0
  /// Where the payload's first byte lies in its message.
  public internal(set) var messageOffset: UInt32 = 0
  /// Immediate data's 8 bytes as a number.
  public internal(set) var immediate: UInt64 = 0
  /// Bytes of the RDMA write right in front of immediate data; nil without one.
  public internal(set) var writeByteCount: Int?

  init(_ kind: Kind, payload: WireView) {
    self.kind = kind
    self.payload = payload
  }

  /// The request that the payload of a `readRequest` is.
  public var readRequest: ReadRequestHeader? { ReadRequestHeader(payload) }
  /// The message that the payload of a `terminate` is; nil when it is malformed.
  public var terminate: TerminateMessage? { TerminateMessage(payload) }
}

/// The peer has broken the protocol; nothing behind it can be trusted.
public struct StreamViolation: Error, Equatable, Sendable {
  public let cause: TerminateCause
  public init(_ cause: TerminateCause) { self.cause = cause }
}
