/// A piece of registered memory in a work request.
///
/// The corresponding C type is `ibv_sge`.
public struct ScatterGatherElement: Equatable, Sendable, BitwiseCopyable {
  /// First byte, an address in this process.
  public var address: UInt64
  public var byteCount: UInt32
  /// The region that holds the bytes; ignored where the request carries its data inline.
  public var localKey: LocalKey

  @inlinable
  public init(address: UInt64, byteCount: UInt32, localKey: LocalKey) {
    self.address = address
    self.byteCount = byteCount
    self.localKey = localKey
  }
}

/// None, one or two pieces of memory that make up one message: a header and a payload, say.
///
/// Longer lists are posted as several requests; the limit keeps a request within a cache line.
public struct ScatterGatherList: Equatable, Sendable, BitwiseCopyable {
  /// The most elements that a list holds.
  @inlinable public static var maximumCount: Int { 2 }

  public let first: ScatterGatherElement
  public let second: ScatterGatherElement
  public let count: Int

  /// A message of no bytes.
  @inlinable
  public init() {
    first = ScatterGatherElement(address: 0, byteCount: 0, localKey: LocalKey(rawValue: 0))
    second = first
    count = 0
  }

  @inlinable
  public init(_ element: ScatterGatherElement) {
    first = element
    second = ScatterGatherElement(address: 0, byteCount: 0, localKey: LocalKey(rawValue: 0))
    count = 1
  }

  @inlinable
  public init(_ first: ScatterGatherElement, _ second: ScatterGatherElement) {
    self.first = first
    self.second = second
    count = 2
  }

  /// Bytes in all elements together.
  @inlinable
  public var byteCount: Int { Int(first.byteCount) &+ Int(second.byteCount) }
}
