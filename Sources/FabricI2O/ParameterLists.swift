public import FabricWire

/// Lists of operations on parameters, and of their results. (IT-50, IT-52)
///
/// An operation: what (2 bytes), group (2), count of fields (2), their numbers (2 each), padded to
/// whole words; in front of all of them their count (2) and 0 (2). A result: its words (2), status (1),
/// words of an explanation (1: 0), values, padded; in front of all of them their count (2) and 0 (2).
public enum ParameterLists {
  /// The operation that reads fields of a group.
  static let fieldGet: UInt16 = 1
  /// In place of a count of fields: all of them.
  static let allFields: UInt16 = 0xFFFF
  /// The longest list of results of the groups there are, of one operation each.
  public static let maximumResultByteCount = 1024

  /// How an operation ended.
  public enum Status: UInt8, Sendable {
    case success = 0x00
    case bufferFull = 0x03
    case invalidGroup = 0x08
    case invalidOperation = 0x09
    case noSuchField = 0x0B
  }

  /// The operations that read all of each group.
  public static func operations(reading groups: [ParameterGroup]) -> [UInt8] {
    var bytes: [UInt8] = []
    func append(_ number: UInt16) {
      bytes += [UInt8(truncatingIfNeeded: number), UInt8(number >> 8)]
    }
    append(UInt16(groups.count))
    append(0)
    for group in groups {
      for number in [fieldGet, group.rawValue, allFields, 0] { append(number) }
    }
    return bytes
  }

  /// Carries a list of operations out.
  ///
  /// - Parameters:
  ///   - facts: of the device; nil: the I/O processor, which has no groups here.
  ///   - buffer: takes the results.
  /// - Returns: bytes of the results.
  /// - Throws: what is wrong with the list itself.
  static func answer(
    _ operations: WireView, at offset: Int, facts: DeviceFacts?, into buffer: WireBuffer
  ) throws(MessageFault) -> Int {
    guard operations.byteCount >= 4 else { throw MessageFault(.messageTooSmall, at: offset) }
    guard buffer.byteCount >= 4 else { throw MessageFault(.replyBufferFull, at: offset) }
    let count = Int(operations.uint16(at: 0))
    guard count > 0, operations.uint16(at: 2) == 0 else {
      throw MessageFault(.invalidParameter, at: offset)
    }
    var place = 4
    var end = 4
    var resultCount = 0
    while resultCount < count {
      guard operations.byteCount - place >= 6 else {
        throw MessageFault(.missingParameter, at: offset + place)
      }
      // No room for another status: the rest is not answered.
      guard buffer.byteCount - end >= 4 else { break }
      let status = try one(operations, &place, offset, facts, buffer, &end)
      resultCount += 1
      // What an unknown operation consists of nobody knows: the list ends with it.
      if status == .invalidOperation || status == .bufferFull { break }
    }
    buffer.set(UInt16(resultCount), at: 0)
    buffer.set(0 as UInt16, at: 2)
    return end
  }

  private static func one(
    _ operations: WireView, _ place: inout Int, _ offset: Int, _ facts: DeviceFacts?,
    _ buffer: WireBuffer, _ end: inout Int
  ) throws(MessageFault) -> Status {
    let operation = operations.uint16(at: place)
    let number = operations.uint16(at: place + 2)
    let fieldCount = operations.uint16(at: place + 4)
    guard operation == fieldGet else {
      result(.invalidOperation, buffer, &end, valueByteCount: 0)
      return .invalidOperation
    }
    let fields = place + 6
    let isAll = fieldCount == allFields
    let listed = isAll ? 0 : Int(fieldCount)
    guard operations.byteCount - fields >= listed * 2 else {
      throw MessageFault(.missingParameter, at: offset + place)
    }
    // The last one may leave its padding out.
    place = min((fields + listed * 2 + 3) & ~3, operations.byteCount)
    guard let facts, let group = ParameterGroup(rawValue: number) else {
      result(.invalidGroup, buffer, &end, valueByteCount: 0)
      return .invalidGroup
    }
    var values = end + 4
    let counts = group.fieldByteCounts
    let status = withGroup(group, facts) { whole -> Status in
      for index in 0..<(isAll ? counts.count : listed) {
        let field = isAll ? index : Int(operations.uint16(at: fields + index * 2))
        guard field < counts.count else { return .noSuchField }
        let start = counts[..<field].reduce(0, +)
        guard buffer.byteCount - values >= (counts[field] + 3) & ~3 else { return .bufferFull }
        buffer.copy(whole.slice(start, counts[field]), at: values)
        values += counts[field]
      }
      return .success
    }
    result(status, buffer, &end, valueByteCount: status == .success ? values - end - 4 : 0)
    return status
  }

  private static func withGroup<Value>(
    _ group: ParameterGroup, _ facts: DeviceFacts, _ body: (WireView) -> Value
  ) -> Value {
    unsafe withUnsafeTemporaryAllocation(byteCount: group.byteCount, alignment: 8) { bytes in
      let buffer = unsafe WireBuffer(bytes)
      group.encode(facts, into: buffer)
      return body(buffer.view)
    }
  }

  /// Writes the head and the padding of a result whose values are there, and moves `end` behind it.
  private static func result(
    _ status: Status, _ buffer: WireBuffer, _ end: inout Int, valueByteCount: Int
  ) {
    let byteCount = (4 + valueByteCount + 3) & ~3
    buffer.set(UInt16(byteCount / 4), at: end)
    buffer.set(status.rawValue, at: end + 2)
    buffer.set(0 as UInt8, at: end + 3)
    for offset in 4 + valueByteCount..<max(4 + valueByteCount, byteCount) {
      buffer.set(0 as UInt8, at: end + offset)
    }
    end += byteCount
  }

  /// Reads the values of a list of results, padding and all; nil when one is no success or the list
  /// is none.
  public static func values(_ view: WireView) -> [WireView]? {
    guard view.byteCount >= 4 else { return nil }
    var values: [WireView] = []
    var place = 4
    for _ in 0..<Int(view.uint16(at: 0)) {
      guard view.byteCount - place >= 4 else { return nil }
      let byteCount = Int(view.uint16(at: place)) * 4
      guard byteCount >= 4, byteCount <= view.byteCount - place,
        view.uint8(at: place + 2) == Status.success.rawValue
      else { return nil }
      values.append(view.slice(place + 4, byteCount - 4))
      place += byteCount
    }
    return values
  }
}
