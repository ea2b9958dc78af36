import FabricBounded

/// First in, first out, with room for `capacity` completions: those a queue has not been asked for.
struct CompletionRing: ~Copyable {
  private let slots: FixedTable<BlockCompletion>
  private var head = 0
  private(set) var count = 0

  init(capacity: Int) {
    slots = FixedTable(repeating: BlockCompletion(tag: 0, status: .success), count: capacity)
  }

  mutating func push(_ completion: BlockCompletion) {
    precondition(count < slots.count, "more completions than requests")
    var tail = head &+ count
    if tail >= slots.count { tail &-= slots.count }
    slots[tail] = completion
    count &+= 1
  }

  mutating func pop() -> BlockCompletion? {
    guard count > 0 else { return nil }
    let completion = slots[head]
    head &+= 1
    if head == slots.count { head = 0 }
    count &-= 1
    return completion
  }

  /// Moves as many as fit into `batch`.
  mutating func move(into batch: CompletionBatch) -> Int {
    var moved = 0
    while !batch.isFull, let completion = pop() {
      batch.append(completion)
      moved &+= 1
    }
    return moved
  }
}
