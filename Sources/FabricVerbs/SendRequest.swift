/// What the initiator asks of the queue pair. The corresponding C type is `ibv_wr_opcode`.
public enum SendOpcode: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  /// Places the message in the next receive that the peer posted.
  case send
  /// As `send`, with 32 bits delivered in the receive's completion.
  case sendWithImmediate
  /// Places the message at `remoteAddress`; the peer sees no completion.
  case write
  /// As `write`, and consumes a receive whose completion carries 32 bits; where the adapter's
  /// `capabilities.hasImmediateWrite`.
  case writeWithImmediate
  /// Fetches from `remoteAddress` into the elements; where `capabilities.hasRemoteRead`.
  case read

  /// What a completion of it is called.
  @inlinable
  public var completionOpcode: WorkCompletionOpcode {
    switch self {
    case .send, .sendWithImmediate: .send
    case .write, .writeWithImmediate: .write
    case .read: .read
    }
  }
}

/// Options of a send request. The corresponding C type is `ibv_send_flags`, which has the same values.
public struct SendFlags: OptionSet, Sendable, BitwiseCopyable {
  public let rawValue: UInt8
  @inlinable public init(rawValue: UInt8) { self.rawValue = rawValue }

  /// A successful end makes a completion. A failed one always does.
  @inlinable public static var signaled: SendFlags { SendFlags(rawValue: 2) }
  /// The bytes are taken at the post: the elements' keys are ignored and their memory may be used
  /// again at once. At most `capabilities.maximumInlineByteCount`.
  @inlinable public static var inline: SendFlags { SendFlags(rawValue: 8) }
  /// Starts only after all earlier RDMA reads of this queue pair have ended.
  @inlinable public static var fence: SendFlags { SendFlags(rawValue: 1) }
}

/// A request for a queue pair's send queue. The corresponding C type is `ibv_send_wr`.
public struct SendRequest: Sendable, BitwiseCopyable {
  /// Comes back in the completion; means nothing to the fabric.
  public var id: UInt64
  public var opcode: SendOpcode
  public var flags: SendFlags
  /// Delivered to the peer by the opcodes with immediate.
  public var immediate: UInt32
  /// The message, or where a read's bytes go.
  public var elements: ScatterGatherList
  /// First byte at the peer, for writes and reads.
  public var remoteAddress: UInt64
  /// The peer's key for it.
  public var remoteKey: RemoteKey

  @inlinable
  public init(
    id: UInt64, opcode: SendOpcode, elements: ScatterGatherList, flags: SendFlags = .signaled,
    immediate: UInt32 = 0, remoteAddress: UInt64 = 0, remoteKey: RemoteKey = .init(rawValue: 0)
  ) {
    self.id = id
    self.opcode = opcode
    self.flags = flags
    self.immediate = immediate
    self.elements = elements
    self.remoteAddress = remoteAddress
    self.remoteKey = remoteKey
  }
}

/// A request for a receive queue. The corresponding C type is `ibv_recv_wr`.
public struct ReceiveRequest: Sendable, BitwiseCopyable {
  /// Comes back in the completion; means nothing to the fabric.
  public var id: UInt64
  /// Where the message goes; filled in order. May be empty, for writes with immediate.
  public var elements: ScatterGatherList

  @inlinable
  public init(id: UInt64, elements: ScatterGatherList) {
    self.id = id
    self.elements = elements
  }
}
