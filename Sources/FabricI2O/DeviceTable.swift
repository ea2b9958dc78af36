public import FabricWire

/// The logical configuration table: a head of 12 bytes, then 36 for each device. (IT-22)
///
/// | Offset | Bytes | Field of the head |
/// |---|---|---|
/// | 0 | 4 | words of the whole table in bits 0 to 15, version 1 in bits 28 to 31 |
/// | 8 | 4 | change indicator |
///
/// | Offset | Bytes | Field of an entry |
/// |---|---|---|
/// | 0 | 4 | words of the entry in bits 0 to 15, number of the device in bits 16 to 27 |
/// | 4 | 4 | change indicator of the entry |
/// | 8 | 4 | flags: bit 1, there may be several users |
/// | 12 | 4 | class in bits 0 to 11, its version 1 in bits 12 to 15 |
/// | 20 | 4 | user 0xFFF in bits 0 to 11: nobody; parent 0 |
/// | 24 | 8 | low half of the volume's identity |
public struct DeviceTable: Equatable, Sendable {
  public static let headByteCount = 12
  public static let entryByteCount = 36
  /// A table's size is counted in 16 bits of words.
  public static let maximumCount = (0xFFFF * 4 - headByteCount) / entryByteCount

  public struct Entry: Equatable, Sendable, BitwiseCopyable {
    public var number: UInt16
    public var changeIndicator: UInt32
    public var identity: UInt64

    public init(number: UInt16, changeIndicator: UInt32, identity: UInt64) {
      self.number = number
      self.changeIndicator = changeIndicator
      self.identity = identity
    }
  }

  public var changeIndicator: UInt32
  /// Of all devices, also where there was no room for their entries.
  public var count: Int
  public var entries: [Entry]

  public static func byteCount(_ count: Int) -> Int { headByteCount + count * entryByteCount }

  /// Writes the head.
  public static func encodeHead(count: Int, changeIndicator: UInt32, into buffer: WireBuffer) {
    buffer.set(UInt32(byteCount(count) / 4) | 1 << 28, at: 0)
    buffer.set(0 as UInt32, at: 4)
    buffer.set(changeIndicator, at: 8)
  }

  /// Writes an entry to 36 bytes.
  public static func encode(_ entry: Entry, into buffer: WireBuffer) {
    buffer.clear()
    buffer.set(UInt32(entryByteCount / 4) | UInt32(entry.number) << 16, at: 0)
    buffer.set(entry.changeIndicator, at: 4)
    buffer.set(2 as UInt32, at: 8)
    buffer.set(UInt32(I2O.randomBlockStorage) | 1 << 12, at: 12)
    buffer.set(UInt32(I2O.noTID), at: 20)
    buffer.set(entry.identity, at: 24)
  }

  /// Reads what a unit wrote, as far as there was room for it: devices of block storage, and no
  /// others. nil when it is no table.
  public init?(_ view: WireView) {
    guard view.byteCount >= Self.headByteCount else { return nil }
    let words = Int(view.uint32(at: 0) & 0xFFFF)
    guard words * 4 >= Self.headByteCount,
      (words * 4 - Self.headByteCount) % Self.entryByteCount == 0
    else { return nil }
    changeIndicator = view.uint32(at: 8)
    count = (words * 4 - Self.headByteCount) / Self.entryByteCount
    entries = []
    let here = min(count, (view.byteCount - Self.headByteCount) / Self.entryByteCount)
    for index in 0..<here {
      let entry = view.slice(Self.byteCount(index), Self.entryByteCount)
      guard entry.uint32(at: 0) & 0xFFFF == UInt32(Self.entryByteCount / 4) else { return nil }
      guard UInt16(truncatingIfNeeded: entry.uint32(at: 12)) & 0xFFF == I2O.randomBlockStorage
      else { continue }
      entries.append(
        Entry(
          number: UInt16(truncatingIfNeeded: entry.uint32(at: 0) >> 16) & 0xFFF,
          changeIndicator: entry.uint32(at: 4), identity: entry.uint64(at: 24)))
    }
  }
}
