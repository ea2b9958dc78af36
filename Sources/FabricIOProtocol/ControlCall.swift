public import FabricWire

/// What a control call asks for. (IO-70)
public struct ControlCode: RawRepresentable, Hashable, Sendable, BitwiseCopyable {
  public let rawValue: UInt32
  public init(rawValue: UInt32) { self.rawValue = rawValue }

  /// What the volume is: a `ControlIdentity`.
  public static let identify = ControlCode(rawValue: 1)
  /// Bytes of a block, as the result.
  public static let blockSize = ControlCode(rawValue: 2)
  /// Sets the bytes of a block, 4 bytes of payload; only to what they are.
  public static let setBlockSize = ControlCode(rawValue: 3)
  /// Looks whether the volume has grown; result 1: it has. Payload: the block count (8).
  public static let rescan = ControlCode(rawValue: 4)
  /// The state of the path that the call comes by, as the result. (IO-60)
  public static let pathState = ControlCode(rawValue: 5)
  /// How the volume has done: a `ControlHealth`.
  public static let health = ControlCode(rawValue: 6)
  /// Erases the volume for good: refused.
  public static let sanitise = ControlCode(rawValue: 7)

  /// Codes of vendors: whatever the unit's program makes of them.
  public var isVendors: Bool { rawValue >= 0x8000_0000 }
}

/// A request like an ioctl, from the host to the unit. (IO-70)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | code |
/// | 4 | 2 | bytes of payload, at most 200 |
/// | 6 | 2 | reserved |
/// | 8 | | payload |
public struct ControlCall: Equatable, Sendable {
  /// The longest payload of a call or an answer, in bytes.
  public static let maximumPayloadByteCount = 200

  public var code: ControlCode
  public var payload: [UInt8]

  /// Traps when the payload is longer than 200 bytes.
  public init(_ code: ControlCode, payload: [UInt8] = []) {
    precondition(payload.count <= Self.maximumPayloadByteCount, "at most 200 bytes of payload")
    self.code = code
    self.payload = payload
  }

  /// The message's payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.append(code.rawValue)
    writer.append(UInt16(payload.count))
    writer.append(0 as UInt16)
    return writer.bytes + payload
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.reservedNotZero`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "a control call"
    guard view.byteCount >= 8 else {
      throw .wrongByteCount(record: record, expected: 8, found: view.byteCount)
    }
    payload = try ControlPayload.decode(view, countAt: 4, at: 8, record: record)
    guard view.uint16(at: 6) == 0 else { throw .reservedNotZero(record: record) }
    code = ControlCode(rawValue: view.uint32(at: 0))
  }
}

/// What came of a control call. (IO-71)
///
/// | Offset | Bytes | Field |
/// |---|---|---|
/// | 0 | 4 | errno of Linux; 0: done |
/// | 4 | 4 | result, signed |
/// | 8 | 2 | bytes of payload, at most 200 |
/// | 10 | 2 | reserved |
/// | 12 | | payload |
public struct ControlAnswer: Equatable, Sendable {
  /// What Linux calls it; 0: it was done.
  public var errno: Int32
  public var result: Int32
  public var payload: [UInt8]

  /// Traps when the payload is longer than 200 bytes.
  public init(errno: Int32 = 0, result: Int32 = 0, payload: [UInt8] = []) {
    precondition(
      payload.count <= ControlCall.maximumPayloadByteCount, "at most 200 bytes of payload")
    self.errno = errno
    self.result = result
    self.payload = payload
  }

  /// The message's payload.
  public func encoded() -> [UInt8] {
    var writer = WireWriter()
    writer.append(errno)
    writer.append(result)
    writer.append(UInt16(payload.count))
    writer.append(0 as UInt16)
    return writer.bytes + payload
  }

  /// - Throws: `.wrongByteCount`, `.invalidField`, `.reservedNotZero`.
  public init(decoding view: WireView) throws(ProtocolFault) {
    let record = "a control answer"
    guard view.byteCount >= 12 else {
      throw .wrongByteCount(record: record, expected: 12, found: view.byteCount)
    }
    payload = try ControlPayload.decode(view, countAt: 8, at: 12, record: record)
    guard view.uint16(at: 10) == 0 else { throw .reservedNotZero(record: record) }
    // Numbers that Linux has.
    guard view.uint32(at: 0) < 4096 else {
      throw .invalidField(record: record, field: "errno", found: UInt64(view.uint32(at: 0)))
    }
    errno = Int32(view.uint32(at: 0))
    result = Int32(bitPattern: view.uint32(at: 4))
  }
}

private enum ControlPayload {
  static func decode(
    _ view: WireView, countAt place: Int, at offset: Int, record: String
  ) throws(ProtocolFault) -> [UInt8] {
    let count = Int(view.uint16(at: place))
    guard count <= ControlCall.maximumPayloadByteCount else {
      throw .invalidField(record: record, field: "the payload's length", found: UInt64(count))
    }
    guard view.byteCount == offset + count else {
      throw .wrongByteCount(record: record, expected: offset + count, found: view.byteCount)
    }
    return view.slice(offset, count).array
  }
}
