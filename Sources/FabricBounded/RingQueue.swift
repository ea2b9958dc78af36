/// Plain values, first in first out. Grows to the most that are in it at once and stays so large: after
/// that nothing is allocated.
public struct RingQueue<Element: BitwiseCopyable> {
  /// A power of two of places.
  private var storage: FixedTable<Element>?
  private var head = 0
  public private(set) var count = 0

  public init() {}

  public var isEmpty: Bool { count == 0 }

  /// The oldest, which stays; nil when there is none.
  public var first: Element? {
    guard count > 0, let storage else { return nil }
    return storage[head]
  }

  /// Adds at the end.
  public mutating func append(_ element: Element) {
    let capacity = storage?.count ?? 0
    if count == capacity { grow(from: capacity, filledWith: element) }
    guard let storage else { return }
    storage[(head &+ count) & (storage.count &- 1)] = element
    count &+= 1
  }

  /// Takes the oldest; nil when there is none.
  @discardableResult
  public mutating func popFirst() -> Element? {
    guard count > 0, let storage else { return nil }
    let element = storage[head]
    head = (head &+ 1) & (storage.count &- 1)
    count &-= 1
    return element
  }

  private mutating func grow(from capacity: Int, filledWith element: Element) {
    let larger = FixedTable(repeating: element, count: max(8, capacity * 2))
    if let storage {
      for index in 0..<count { larger[index] = storage[(head &+ index) & (capacity &- 1)] }
    }
    storage = larger
    head = 0
  }
}
