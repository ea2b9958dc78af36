/// How a work request ended. The corresponding C type is `ibv_wc_status`.
public enum WorkCompletionStatus: UInt8, Sendable, BitwiseCopyable, CaseIterable {
  case success
  /// The message was longer than the receive; on both sides, but that a device may tell who sent it
  /// `remoteInvalidRequest` or `remoteOperationError` instead.
  case lengthError
  /// An element's key, bounds or rights do not cover it, on this side.
  case localProtectionError
  /// The peer refused the address, key, bounds or rights; it changed no byte.
  case remoteAccessError
  /// The peer found the request malformed.
  case remoteInvalidRequest
  /// The peer could not carry it out.
  case remoteOperationError
  /// The peer died or the connection broke before the end was known.
  case transportError
  /// The queue pair failed or was disconnected before this request was carried out.
  case flushed
}

/// What kind of request a completion belongs to. The corresponding C type is `ibv_wc_opcode`.
public enum WorkCompletionOpcode: UInt8, Sendable, BitwiseCopyable {
  case send
  case write
  case read
  /// A receive that took a send.
  case receive
  /// A receive that a write with immediate consumed; the data is elsewhere.
  case receiveWriteImmediate
}

/// The end of one work request. The corresponding C type is `ibv_wc`.
public struct WorkCompletion: Sendable, BitwiseCopyable, Equatable {
  /// The request's own.
  public var id: UInt64
  public var queuePairNumber: UInt32
  /// For receives: bytes of the message. Undefined unless `status` is success.
  public var byteCount: UInt32
  /// Valid when `hasImmediate`.
  public var immediate: UInt32
  public var status: WorkCompletionStatus
  /// Which side of the queue pair; in a failed completion only send or receive is certain.
  public var opcode: WorkCompletionOpcode
  public var hasImmediate: Bool

  @inlinable
  public init(
    id: UInt64 = 0, queuePairNumber: UInt32 = 0, byteCount: UInt32 = 0, immediate: UInt32 = 0,
    status: WorkCompletionStatus = .success, opcode: WorkCompletionOpcode = .send,
    hasImmediate: Bool = false
  ) {
    self.id = id
    self.queuePairNumber = queuePairNumber
    self.byteCount = byteCount
    self.immediate = immediate
    self.status = status
    self.opcode = opcode
    self.hasImmediate = hasImmediate
  }

  /// Whether it ends a request of the receive queue.
  @inlinable
  public var isReceive: Bool { opcode == .receive || opcode == .receiveWriteImmediate }
}
