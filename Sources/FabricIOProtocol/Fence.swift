public import FabricStorage
public import FabricWire

/// One of a session's connections. (IO-14)
public struct ConnectionName: Hashable, Sendable, BitwiseCopyable {
  public var epoch: UInt32
  /// Tells apart the connections of one epoch.
  public var number: UInt8

  public init(epoch: UInt32, number: UInt8) {
    self.epoch = epoch
    self.number = number
  }
}

/// Asks a unit to end another connection of the same session for good, and how some of its commands
/// ended. (IO-50)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | epoch of the connection |
/// | 4 | 1 | its number |
/// | 5 | 1 | how many tags follow, 0 to 16 |
/// | 6 | 2 | reserved |
/// | 8 | 4 each | tags |
public struct FenceRequest: Equatable, Sendable {
  /// The most tags that one request names.
  public static let maximumTagCount = 16

  public var connection: ConnectionName
  public var tags: [RequestTag]

  public init(_ connection: ConnectionName, tags: [RequestTag] = []) {
    precondition(tags.count <= Self.maximumTagCount, "at most 16 tags")
    self.connection = connection
    self.tags = tags
  }

  /// The message's payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.append(connection.epoch)
    writer.append(connection.number)
    writer.append(UInt8(tags.count))
    writer.append(0 as UInt16)
    for tag in tags { writer.append(tag.rawValue) }
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.reservedNotZero`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "a fence request"
    let count = try FenceHeader.check(view, record: record, entryByteCount: 4)
    guard view.uint16(at: 6) == 0 else { throw .reservedNotZero(record: record) }
    self.init(
      FenceHeader.connection(view),
      tags: (0..<count).map { RequestTag(rawValue: view.uint32(at: 8 + $0 * 4)) })
  }
}

/// Nothing of the connection that was asked about can change a block any more; and how the commands
/// ended that were asked about, in the order of the question. (IO-51, IO-52)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | epoch of the connection |
/// | 4 | 1 | its number |
/// | 5 | 1 | how many outcomes follow |
/// | 6 | 1 | 1: the unit remembers the connection, and what is not known of it was not done |
/// | 7 | 1 | reserved |
/// | 8 | 12 each | outcome: tag (4), bytes transferred (4), status (2), 1: it ended so (1), reserved (1) |
public struct FenceAnswer: Equatable, Sendable {
  /// How one command ended.
  public struct Outcome: Equatable, Sendable, BitwiseCopyable {
    public var tag: RequestTag
    public var transferredByteCount: UInt32
    /// nil: it is not known to have ended.
    public var status: BlockStatus?

    public init(tag: RequestTag, transferredByteCount: UInt32 = 0, status: BlockStatus? = nil) {
      self.tag = tag
      self.transferredByteCount = transferredByteCount
      self.status = status
    }
  }

  public var connection: ConnectionName
  public var isRemembered: Bool
  public var outcomes: [Outcome]

  public init(_ connection: ConnectionName, isRemembered: Bool, outcomes: [Outcome] = []) {
    precondition(outcomes.count <= FenceRequest.maximumTagCount, "at most 16 outcomes")
    self.connection = connection
    self.isRemembered = isRemembered
    self.outcomes = outcomes
  }

  /// The message's payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.append(connection.epoch)
    writer.append(connection.number)
    writer.append(UInt8(outcomes.count))
    writer.append(isRemembered ? 1 : 0 as UInt8)
    writer.append(0 as UInt8)
    for outcome in outcomes {
      writer.append(outcome.tag.rawValue)
      writer.append(outcome.transferredByteCount)
      writer.append(StatusCode(outcome.status ?? .success).rawValue)
      writer.append(outcome.status == nil ? 0 : 1 as UInt8)
      writer.append(0 as UInt8)
    }
    return writer.bytes
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.reservedNotZero`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "a fence answer"
    let count = try FenceHeader.check(view, record: record, entryByteCount: 12)
    guard view.uint8(at: 6) <= 1 else {
      throw .invalidField(record: record, field: "memory", found: UInt64(view.uint8(at: 6)))
    }
    guard view.uint8(at: 7) == 0 else { throw .reservedNotZero(record: record) }
    var outcomes: [Outcome] = []
    for offset in stride(from: 8, to: 8 + count * 12, by: 12) {
      guard view.uint8(at: offset + 10) <= 1 else {
        throw .invalidField(
          record: record, field: "an outcome", found: UInt64(view.uint8(at: offset + 10)))
      }
      guard view.uint8(at: offset + 11) == 0 else { throw .reservedNotZero(record: record) }
      let isKnown = view.uint8(at: offset + 10) == 1
      outcomes.append(
        Outcome(
          tag: RequestTag(rawValue: view.uint32(at: offset)),
          transferredByteCount: view.uint32(at: offset + 4),
          status: isKnown ? StatusCode(rawValue: view.uint16(at: offset + 8)).status : nil))
    }
    self.init(
      FenceHeader.connection(view), isRemembered: view.uint8(at: 6) == 1, outcomes: outcomes)
  }
}

/// What request and answer begin with.
private enum FenceHeader {
  /// Returns how many entries follow.
  static func check(
    _ view: WireView, record: String, entryByteCount: Int
  ) throws(ProtocolFault) -> Int {
    guard view.byteCount >= 8 else {
      throw .wrongByteCount(record: record, expected: 8, found: view.byteCount)
    }
    let count = Int(view.uint8(at: 5))
    guard count <= FenceRequest.maximumTagCount else {
      throw .invalidField(record: record, field: "how many follow", found: UInt64(count))
    }
    guard view.byteCount == 8 + count * entryByteCount else {
      throw .wrongByteCount(
        record: record, expected: 8 + count * entryByteCount, found: view.byteCount)
    }
    return count
  }

  static func connection(_ view: WireView) -> ConnectionName {
    ConnectionName(epoch: view.uint32(at: 0), number: view.uint8(at: 4))
  }
}
