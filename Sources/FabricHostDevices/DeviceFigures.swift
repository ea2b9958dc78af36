/// What a device was asked for since it was made.
public struct DeviceFigures: Equatable, Sendable {
  public var readCount: UInt64 = 0
  public var readByteCount: UInt64 = 0
  public var writeCount: UInt64 = 0
  public var writeByteCount: UInt64 = 0
  public var flushCount: UInt64 = 0
  /// Discards and writes of zeroes.
  public var zeroingCount: UInt64 = 0
  /// Requests that ended with an error, whichever kind.
  public var errorCount: UInt64 = 0
  /// Requests that the kernel has given and that have not ended.
  public var inFlightCount = 0

  public init() {}

  /// Those of several queues together.
  mutating func add(_ other: DeviceFigures) {
    readCount &+= other.readCount
    readByteCount &+= other.readByteCount
    writeCount &+= other.writeCount
    writeByteCount &+= other.writeByteCount
    flushCount &+= other.flushCount
    zeroingCount &+= other.zeroingCount
    errorCount &+= other.errorCount
    inFlightCount += other.inFlightCount
  }
}
