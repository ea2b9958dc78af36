/// Room for completions, allocated once and filled by `poll` again and again.
///
/// Confined to one thread.
@safe
public final class CompletionBatch {
  @usableFromInline let base: UnsafeMutablePointer<BlockCompletion>
  /// The most it holds.
  public let capacity: Int
  /// How many it holds.
  public private(set) var count = 0

  public init(capacity: Int) {
    precondition(capacity > 0, "a batch holds at least one completion")
    unsafe base = .allocate(capacity: capacity)
    unsafe base.initialize(
      repeating: BlockCompletion(tag: 0, status: .success), count: capacity)
    self.capacity = capacity
  }

  deinit { unsafe base.deallocate() }

  /// Whether `append` would trap.
  public var isFull: Bool { count == capacity }

  /// The completion at `index`, in the order in which they ended.
  public subscript(index: Int) -> BlockCompletion {
    get {
      precondition(index >= 0 && index < count, "outside the batch")
      return unsafe base[index]
    }
    set {
      precondition(index >= 0 && index < count, "outside the batch")
      unsafe base[index] = newValue
    }
  }

  /// Adds one; traps when full.
  public func append(_ completion: BlockCompletion) {
    precondition(!isFull, "the batch is full")
    unsafe base[count] = completion
    count &+= 1
  }

  public func removeAll() { count = 0 }

  /// Lends the completions to `body`.
  public func withCompletions<Result>(_ body: (Span<BlockCompletion>) -> Result) -> Result {
    body(unsafe UnsafeBufferPointer(start: base, count: count).span)
  }
}
