/// Where a queue pair stands. The corresponding C type is `ibv_qp_state`.
public enum QueuePairState: UInt8, Sendable, BitwiseCopyable {
  /// Made and not connected: receives may be posted.
  case initialized
  /// Being connected: what the peer sends is received, sends are refused.
  case readyToReceive
  /// Connected.
  case readyToSend
  /// Failed or disconnected: what was posted and what is posted now completes as `flushed`.
  case error
}

/// What a queue pair is made of.
public struct QueuePairAttributes: Sendable {
  public var protectionDomain: any ProtectionDomain
  /// Where sends, writes and reads complete.
  public var sendCompletionQueue: any CompletionQueue
  /// Where receives complete; may be the same.
  public var receiveCompletionQueue: any CompletionQueue
  /// Requests that the send queue holds at once.
  public var sendCapacity: Int
  /// Requests that the receive queue holds at once; ignored with a shared receive queue.
  public var receiveCapacity: Int
  /// Takes the place of the queue pair's own receive queue.
  public var sharedReceiveQueue: (any SharedReceiveQueue)?

  public init(
    protectionDomain: any ProtectionDomain, sendCompletionQueue: any CompletionQueue,
    receiveCompletionQueue: any CompletionQueue, sendCapacity: Int = 256,
    receiveCapacity: Int = 256, sharedReceiveQueue: (any SharedReceiveQueue)? = nil
  ) {
    self.protectionDomain = protectionDomain
    self.sendCompletionQueue = sendCompletionQueue
    self.receiveCompletionQueue = receiveCompletionQueue
    self.sendCapacity = sendCapacity
    self.receiveCapacity = receiveCapacity
    self.sharedReceiveQueue = sharedReceiveQueue
  }
}

/// One end of a reliable connection: a send queue and a receive queue.
///
/// Order: requests of one send queue are carried out and completed in the order posted; the data
/// of a write is in place before any later send or immediate of the same queue pair completes at
/// the peer. Nothing is promised between queue pairs.
///
/// Threads: one thread posts sends at a time, one posts receives, and one polls each completion
/// queue; these may be different threads. State changes and `disconnect` come from any thread.
/// The corresponding C type is `ibv_qp`.
public protocol QueuePair: AnyObject, Sendable {
  /// Unique among the adapter's living queue pairs; appears in completions.
  var number: UInt32 { get }
  var state: QueuePairState { get }

  /// Posts requests in order until one is refused.
  ///
  /// - Throws: `PostError` naming how many were taken and why the next was not; those taken stay
  ///   posted.
  func postSend(_ requests: Span<SendRequest>) throws(PostError)

  /// Posts requests in order until one is refused. Traps when the queue pair uses a shared
  /// receive queue.
  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError)

  /// Ends the connection in order: what the peer has accepted stays accepted, everything else
  /// completes as `flushed` on both sides, and the peer is told. No effect in the error state.
  func disconnect()

  /// Takes the queue pair off its completion queues for good; its unpolled completions are gone.
  func destroy()
}

/// Receives shared by several queue pairs: each message takes the next. The corresponding C type
/// is `ibv_srq`.
///
/// Threads: one thread posts at a time.
public protocol SharedReceiveQueue: AnyObject, Sendable {
  var capacity: Int { get }
  /// Posts requests in order until one is refused.
  func postReceive(_ requests: Span<ReceiveRequest>) throws(PostError)
}
