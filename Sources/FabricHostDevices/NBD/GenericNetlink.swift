import CFabricLinux
import FabricPlatform
import FabricWire

/// A family of the kernel's generic netlink, that is asked one thing after the other. (Its numbers
/// are the machine's, whose bytes are little-endian.)
struct GenericNetlink: ~Copyable {
  private let socket: Descriptor
  private let family: UInt16
  private let version: UInt8

  /// - Throws: `.noSuchFileOrDirectory` when the kernel has no such family.
  init(_ name: String, version: Int32) throws(Errno) {
    let socket = try Descriptor(result: fabric_netlink_socket())
    var attributes = NetlinkAttributes()
    attributes.add(CTRL_ATTR_FAMILY_NAME, text: name)
    let answer = try Self.exchange(
      by: socket, type: UInt16(fabric_netlink_control), command: UInt8(CTRL_CMD_GETFAMILY),
      version: 1, attributes)
    guard let number = answer.find(CTRL_ATTR_FAMILY_ID, as: UInt16.self) else {
      throw .noSuchFileOrDirectory
    }
    family = number
    self.version = UInt8(version)
    self.socket = socket
  }

  /// Asks for a command to be carried out, and waits until it has been.
  ///
  /// - Returns: what the kernel told, if anything.
  @discardableResult
  borrowing func call(
    _ command: Int, _ attributes: NetlinkAttributes
  ) throws(Errno) -> NetlinkAttributes {
    try Self.exchange(
      by: socket, type: family, command: UInt8(command), version: version, attributes)
  }

  /// Of `nlmsghdr`, and behind it of `genlmsghdr`.
  private static let headByteCount = 16
  private static let familyHeadByteCount = 4

  private static func exchange(
    by socket: borrowing Descriptor, type: UInt16, command: UInt8, version: UInt8,
    _ attributes: NetlinkAttributes
  ) throws(Errno) -> NetlinkAttributes {
    let number = socket.rawValue
    var message: [UInt8] = []
    let byteCount = headByteCount + familyHeadByteCount + attributes.bytes.count
    message.append(UInt32(byteCount))
    message.append(type)
    message.append(UInt16(NLM_F_REQUEST | NLM_F_ACK))
    message.append(UInt32(0))
    message.append(UInt32(0))
    message += [command, version, 0, 0]
    message += attributes.bytes
    try Errno.check { unsafe send(number, message, message.count, 0) }
    var answer = NetlinkAttributes()
    var room = [UInt8](repeating: 0, count: 32768)
    while true {
      let count = try Errno.check { unsafe recv(number, &room, room.count, 0) }
      guard count > 0 else { throw .connectionReset }
      if try take(room[..<count], into: &answer) { return answer }
    }
  }

  /// Takes messages that came. True when the last of them says that all is done.
  private static func take(
    _ bytes: ArraySlice<UInt8>, into answer: inout NetlinkAttributes
  ) throws(Errno) -> Bool {
    var rest = bytes
    while let length: UInt32 = rest.number(at: 0), let type: UInt16 = rest.number(at: 4),
      length >= headByteCount, length <= rest.count
    {
      let body = rest.prefix(Int(length)).dropFirst(headByteCount)
      if type == UInt16(NLMSG_ERROR) {
        let error: Int32 = body.number(at: 0) ?? -EPROTO
        guard error == 0 else { throw Errno(rawValue: -error) }
        return true
      }
      answer = NetlinkAttributes(Array(body.dropFirst(familyHeadByteCount)))
      rest = rest.dropFirst((Int(length) + 3) & ~3)
    }
    return false
  }
}

/// What a message tells, one behind the other. The corresponding C type is `nlattr`.
struct NetlinkAttributes {
  private(set) var bytes: [UInt8]

  init(_ bytes: [UInt8] = []) { self.bytes = bytes }

  mutating func add(_ type: Int, _ value: some FixedWidthInteger) {
    var body: [UInt8] = []
    body.append(value)
    add(type, body)
  }

  /// Text is ended by a zero.
  mutating func add(_ type: Int, text: String) { add(type, Array(text.utf8) + [0]) }

  mutating func add(_ type: Int, _ nested: NetlinkAttributes) {
    add(type | Int(fabric_netlink_nested), nested.bytes)
  }

  private mutating func add(_ type: Int, _ body: [UInt8]) {
    bytes.append(UInt16(4 + body.count))
    bytes.append(UInt16(type))
    bytes += body
    while bytes.count % 4 != 0 { bytes.append(UInt8(0)) }
  }

  /// The first of a kind; nil when there is none.
  func find<Value: FixedWidthInteger>(_ type: Int, as: Value.Type) -> Value? {
    var rest = bytes[...]
    while let length: UInt16 = rest.number(at: 0), let found: UInt16 = rest.number(at: 2),
      length >= 4, length <= rest.count
    {
      if found == type { return rest.prefix(Int(length)).number(at: 4) }
      rest = rest.dropFirst((Int(length) + 3) & ~3)
    }
    return nil
  }
}

extension [UInt8] {
  fileprivate mutating func append(_ value: some FixedWidthInteger) {
    for shift in stride(from: 0, to: value.bitWidth, by: 8) {
      append(UInt8(truncatingIfNeeded: value >> shift))
    }
  }
}

extension ArraySlice<UInt8> {
  /// A number so many bytes from the first; nil when there are too few.
  fileprivate func number<Value: FixedWidthInteger>(at offset: Int) -> Value? {
    let size = Value.bitWidth / 8
    guard count >= offset + size else { return nil }
    return dropFirst(offset).prefix(size).reversed().reduce(0) { $0 << 8 | Value($1) }
  }
}
