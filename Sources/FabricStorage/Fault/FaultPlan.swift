/// What a fault store does to the requests that pass through it.
public struct FaultPlan: Equatable, Sendable {
  /// Holds back completions.
  public struct Delay: Equatable, Sendable {
    public var duration: Duration
    /// Which requests; nil: all.
    public var operation: BlockOperation?

    public init(_ duration: Duration, of operation: BlockOperation? = nil) {
      self.duration = duration
      self.operation = operation
    }
  }

  /// Ends requests with a status instead of handing them on.
  public struct Failure: Equatable, Sendable {
    public var status: BlockStatus
    /// Which requests; nil: all.
    public var operation: BlockOperation?
    /// Only requests that touch one of these blocks; nil: any.
    public var blocks: ClosedRange<UInt64>?
    /// Of the requests chosen so far, counted over all queues from 1, the first to fail.
    public var first: UInt64
    /// How many fail from there on; nil: all.
    public var count: UInt64?

    public init(
      _ status: BlockStatus, of operation: BlockOperation? = nil,
      blocks: ClosedRange<UInt64>? = nil, first: UInt64 = 1, count: UInt64? = nil
    ) {
      self.status = status
      self.operation = operation
      self.blocks = blocks
      self.first = first
      self.count = count
    }

    func applies(to request: BlockRequest) -> Bool {
      if let operation, operation != request.operation { return false }
      guard let blocks else { return true }
      guard request.blockCount > 0 else { return false }
      let last = request.block &+ UInt64(request.blockCount) &- 1
      return request.block <= blocks.upperBound && last >= blocks.lowerBound
    }
  }

  public var delays: [Delay]
  public var failures: [Failure]

  /// Without arguments: passes everything on.
  public init(delays: [Delay] = [], failures: [Failure] = []) {
    self.delays = delays
    self.failures = failures
  }
}
