/// Plain values at fixed places, allocated once. Confined to one thread at a time.
@safe
public final class FixedTable<Element: BitwiseCopyable> {
  @usableFromInline let base: UnsafeMutablePointer<Element>
  public let count: Int

  public init(repeating element: Element, count: Int) {
    precondition(count >= 0, "a table has no negative length")
    unsafe base = .allocate(capacity: count)
    unsafe base.initialize(repeating: element, count: count)
    self.count = count
  }

  deinit { unsafe base.deallocate() }

  /// The element at `index`; traps outside.
  @inlinable
  public subscript(index: Int) -> Element {
    unsafeAddress {
      precondition(index >= 0 && index < count, "outside the table")
      return unsafe UnsafePointer(base + index)
    }
    unsafeMutableAddress {
      precondition(index >= 0 && index < count, "outside the table")
      return unsafe base + index
    }
  }

  /// The place of the first element, for C. Unsafe: valid as long as the table.
  @inlinable
  @unsafe
  public var address: UnsafeMutablePointer<Element> { unsafe base }

  /// Lends the first `count` elements to `body`; traps when there are fewer.
  @inlinable
  public func withSpan<Result>(prefix count: Int, _ body: (Span<Element>) -> Result) -> Result {
    precondition(count >= 0 && count <= self.count, "outside the table")
    return body(unsafe UnsafeBufferPointer(start: base, count: count).span)
  }
}
