/// A bounds-checked array of plain values whose length is settled when it is made.
@safe
struct FixedArray<Element: BitwiseCopyable>: ~Copyable {
  private let base: UnsafeMutablePointer<Element>
  let count: Int

  init(repeating element: Element, count: Int) {
    unsafe base = .allocate(capacity: max(1, count))
    unsafe base.initialize(repeating: element, count: count)
    self.count = count
  }

  deinit { unsafe base.deallocate() }

  subscript(index: Int) -> Element {
    @inline(__always)
    get {
      precondition(index >= 0 && index < count, "outside the array")
      return unsafe base[index]
    }
    @inline(__always)
    nonmutating _modify {
      precondition(index >= 0 && index < count, "outside the array")
      yield unsafe &base[index]
    }
  }

  /// Lends the first `prefix` elements.
  func withSpan<Result>(prefix: Int, _ body: (Span<Element>) -> Result) -> Result {
    precondition(prefix >= 0 && prefix <= count, "outside the array")
    return body(unsafe UnsafeBufferPointer(start: base, count: prefix).span)
  }

  /// The place of the first element, for C. Unsafe: valid as long as the array.
  @unsafe
  var address: UnsafeMutablePointer<Element> { unsafe base }
}

/// Free indices of a table, last out first in. Never holds more than it was made with.
struct FreeList: ~Copyable {
  private let indices: FixedArray<UInt32>
  private(set) var count: Int

  /// All indices below `capacity`, 0 on top.
  init(capacity: Int) {
    indices = FixedArray(repeating: 0, count: capacity)
    count = capacity
    for index in 0..<capacity { indices[index] = UInt32(capacity - 1 - index) }
  }

  mutating func take() -> UInt32? {
    guard count > 0 else { return nil }
    count &-= 1
    return indices[count]
  }

  mutating func give(_ index: UInt32) {
    precondition(count < indices.count, "an index came back twice")
    indices[count] = index
    count &+= 1
  }
}

/// First in, first out, with room for `capacity` completions: those a queue has not been asked for.
struct CompletionRing: ~Copyable {
  private let slots: FixedArray<BlockCompletion>
  private var head = 0
  private(set) var count = 0

  init(capacity: Int) {
    slots = FixedArray(repeating: BlockCompletion(tag: 0, status: .success), count: capacity)
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
