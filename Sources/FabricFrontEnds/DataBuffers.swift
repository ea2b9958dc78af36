import FabricBounded
import FabricPlatform

/// Memory that is not registered with anybody, or with a fabric.
public struct DataMemory {
  /// First byte, on a page border.
  public let address: UInt64
  public let byteCount: Int
  /// What the source calls it: a fabric's local key, 0 for plain memory.
  public let key: UInt32
  /// Keeps it.
  let owner: AnyObject

  /// - Parameter owner: the memory goes with it.
  public init(address: UInt64, byteCount: Int, key: UInt32, owner: AnyObject) {
    self.address = address
    self.byteCount = byteCount
    self.key = key
    self.owner = owner
  }
}

/// Where buffers come from. Called on the thread of the buffers.
public protocol DataMemorySource: Sendable {
  /// Memory of at least `byteCount` bytes, whole pages; nil: the system has none.
  func makeMemory(byteCount: Int) -> DataMemory?
}

/// Memory of this process.
public struct PlainMemory: DataMemorySource {
  public init() {}

  public func makeMemory(byteCount: Int) -> DataMemory? {
    guard let mapping = try? Mapping.anonymous(byteCount: byteCount) else { return nil }
    return DataMemory(
      address: mapping.address, byteCount: mapping.byteCount, key: 0, owner: mapping)
  }
}

/// Memory for data between connections and stores, on page borders: elements of one size, made when they
/// are first needed and then kept, and larger single buffers within a budget of bytes.
///
/// Taking and giving an element allocates nothing once it was made. Confined to one thread.
public final class DataBuffers {
  /// A piece of memory that was taken. Plain data.
  public struct Buffer: BitwiseCopyable, Sendable {
    /// First byte.
    public let address: UInt64
    /// Bytes that it has room for: at least those asked for.
    public let byteCount: Int
    /// What its source calls it.
    public let key: UInt32
    /// Of an element; negative: a larger buffer's size class.
    fileprivate let number: Int32
  }

  /// What one user has taken, or one host over all of its connections: who has as much as is left for
  /// all must wait.
  public final class Holding {
    fileprivate(set) var elementCount = 0
    fileprivate(set) var largeByteCount = 0
    public init() {}
    /// Whether nothing is held.
    public var isEmpty: Bool { elementCount == 0 && largeByteCount == 0 }
  }

  /// Elements that share a mapping.
  public static let elementsPerChunk = 16

  public let elementByteCount: Int
  private let free: IndexPool
  private let source: any DataMemorySource
  private var chunks: [DataMemory?]
  private let addresses: FixedTable<UInt64>
  private let keys: FixedTable<UInt32>
  private let largeByteLimit: Int
  /// Bytes of all large buffers, taken and kept.
  private var largeByteCount = 0
  private var takenLargeByteCount = 0
  /// By size class: each twice as large as the one before, the first twice an element.
  private var kept: [[DataMemory]] = []
  private var taken: [UInt64: DataMemory] = [:]

  /// - Parameters:
  ///   - elementByteCount: a multiple of the page size.
  ///   - elementCount: at least 1.
  ///   - largeByteLimit: of all larger buffers together.
  public init(
    elementByteCount: Int, elementCount: Int, largeByteLimit: Int,
    source: any DataMemorySource = PlainMemory()
  ) {
    precondition(
      elementByteCount > 0 && elementByteCount.isMultiple(of: pageByteCount) && elementCount > 0,
      "elements of whole pages")
    self.elementByteCount = elementByteCount
    self.largeByteLimit = largeByteLimit
    self.source = source
    free = IndexPool(capacity: elementCount)
    let chunkCount = (elementCount + Self.elementsPerChunk - 1) / Self.elementsPerChunk
    chunks = Array(repeating: nil, count: chunkCount)
    addresses = FixedTable(repeating: 0, count: elementCount)
    keys = FixedTable(repeating: 0, count: elementCount)
    var size = elementByteCount * 2
    while size <= largeByteLimit {
      kept.append([])
      size *= 2
    }
  }

  /// The most bytes that one buffer can have.
  public var maximumByteCount: Int { elementByteCount << kept.count }

  /// Whether the last buffer that could not be had is one that never will: the system refuses memory, and
  /// nobody has such a buffer who could give it back.
  public private(set) var isExhausted = false

  /// Elements that nobody has.
  public var freeElementCount: Int { free.count }

  /// A buffer of at least `byteCount` bytes, which hold anything. Nil when there is none now, this
  /// user has its share, or the system has no memory: to be asked again when something was given.
  ///
  /// - Parameters:
  ///   - byteCount: 1 to `maximumByteCount`; traps outside.
  ///   - holding: the user's.
  public func take(_ byteCount: Int, for holding: Holding) -> Buffer? {
    precondition(byteCount > 0 && byteCount <= maximumByteCount, "a buffer that can be had")
    isExhausted = false
    if byteCount > elementByteCount { return takeLarge(byteCount, for: holding) }
    guard holding.elementCount < free.count, let number = free.take() else { return nil }
    if addresses[number] == 0, !makeChunk(of: number) {
      free.give(number)
      isExhausted = chunks.allSatisfy { $0 == nil }
      return nil
    }
    holding.elementCount &+= 1
    return Buffer(
      address: addresses[number], byteCount: elementByteCount, key: keys[number],
      number: Int32(truncatingIfNeeded: number))
  }

  /// Gives a buffer back that `holding` has.
  public func give(_ buffer: Buffer, of holding: Holding) {
    guard buffer.number < 0 else {
      holding.elementCount &-= 1
      free.give(Int(buffer.number))
      return
    }
    guard let memory = taken.removeValue(forKey: buffer.address) else {
      preconditionFailure("not a taken buffer")
    }
    holding.largeByteCount -= buffer.byteCount
    takenLargeByteCount -= buffer.byteCount
    kept[Int(-1 - buffer.number)].append(memory)
  }

  private func makeChunk(of number: Int) -> Bool {
    let index = number / Self.elementsPerChunk
    guard
      let memory = source.makeMemory(byteCount: Self.elementsPerChunk * elementByteCount)
    else { return false }
    chunks[index] = memory
    let first = index * Self.elementsPerChunk
    for element in first..<min(first + Self.elementsPerChunk, addresses.count) {
      addresses[element] = memory.address + UInt64((element - first) * elementByteCount)
      keys[element] = memory.key
    }
    return true
  }

  private func takeLarge(_ byteCount: Int, for holding: Holding) -> Buffer? {
    var sizeClass = 0
    while elementByteCount << (sizeClass + 1) < byteCount { sizeClass += 1 }
    let size = elementByteCount << (sizeClass + 1)
    let left = largeByteLimit - takenLargeByteCount
    // One may always have a first one, the rest only what leaves as much for others.
    guard size <= left, holding.largeByteCount == 0 || holding.largeByteCount <= left - size else {
      return nil
    }
    let memory: DataMemory
    if let old = kept[sizeClass].popLast() {
      memory = old
    } else {
      releaseKept(leaving: largeByteLimit - size)
      guard let new = source.makeMemory(byteCount: size) else {
        isExhausted = takenLargeByteCount == 0
        return nil
      }
      largeByteCount += size
      memory = new
    }
    taken[memory.address] = memory
    takenLargeByteCount += size
    holding.largeByteCount += size
    return Buffer(
      address: memory.address, byteCount: size, key: memory.key, number: Int32(-1 - sizeClass))
  }

  /// Gives kept buffers back to the system until all have at most `limit` bytes.
  private func releaseKept(leaving limit: Int) {
    for sizeClass in kept.indices.reversed() {
      while largeByteCount > limit, let memory = kept[sizeClass].popLast() {
        largeByteCount -= memory.byteCount
      }
    }
  }
}
