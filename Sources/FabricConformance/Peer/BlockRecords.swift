/// Records of the block protocol, by hand. (Specs/IOProtocol.md)
enum BlockKind {
  static let command: UInt16 = 1
  static let response: UInt16 = 2
  static let ready: UInt16 = 3
  static let volumeQuery: UInt16 = 4
  static let volumeEntry: UInt16 = 5
  static let fence: UInt16 = 6
  static let fenced: UInt16 = 7
  static let pathState: UInt16 = 8
  static let addressQuery: UInt16 = 9
  static let addressEntry: UInt16 = 10
  static let controlCall: UInt16 = 11
  static let controlAnswer: UInt16 = 12
}

/// IO-30.
enum BlockOpcode {
  static let flush: UInt8 = 0
  static let write: UInt8 = 1
  static let read: UInt8 = 2
  static let writeUncorrectable: UInt8 = 4
  static let compare: UInt8 = 5
  static let writeZeroes: UInt8 = 8
  static let deallocate: UInt8 = 9
}

/// IO-34.
enum BlockStatus {
  static let success: UInt16 = 0
  static let unsupported: UInt16 = 1
  static let invalidField: UInt16 = 2
  static let lbaOutOfRange: UInt16 = 0x80
  static let readOnly: UInt16 = 0x182
  static let mediaReadError: UInt16 = 0x281
  static let compareFailure: UInt16 = 0x285
  static let all: Set<UInt16> = [
    0, 1, 2, 6, 7, 0x80, 0x81, 0x182, 0x280, 0x281, 0x285, 0x7C0,
  ]
}

/// The host's opening. (IO-10)
struct HostGreeting {
  static let mark = Array("CFIO".utf8)
  static let fixedByteCount = 32

  var mark = Self.mark
  var version: UInt16 = 1
  var access: UInt8 = 1
  var session: (high: UInt64, low: UInt64)
  var epoch: UInt32 = 1
  var depth: UInt16 = 16
  var number: UInt8 = 0
  var volume: String
  var host: String
  /// As written; nil: those of the names.
  var volumeByteCount: UInt8?
  var hostByteCount: UInt8?

  init(volume: String, host: String, session: (high: UInt64, low: UInt64)) {
    self.volume = volume
    self.host = host
    self.session = session
  }

  /// Nil when it is none.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.fixedByteCount else { return nil }
    mark = Array(bytes[..<4])
    version = bytes.number(UInt16.self, at: 4)
    access = bytes[6]
    session = (bytes.number(UInt64.self, at: 8), bytes.number(UInt64.self, at: 16))
    epoch = bytes.number(UInt32.self, at: 24)
    depth = bytes.number(UInt16.self, at: 28)
    number = bytes[31]
    let count = Int(bytes[7])
    volumeByteCount = bytes[7]
    hostByteCount = bytes[30]
    volume = bytes.text(at: 32, byteCount: count)
    host = bytes.text(at: 32 + count, byteCount: Int(bytes[30]))
  }

  var bytes: [UInt8] {
    var bytes = mark
    bytes.put(version)
    bytes.put(access)
    bytes.put(volumeByteCount ?? UInt8(volume.utf8.count))
    bytes.put(session.high)
    bytes.put(session.low)
    bytes.put(epoch)
    bytes.put(depth)
    bytes.put(hostByteCount ?? UInt8(host.utf8.count))
    bytes.put(number)
    bytes.put(volume)
    bytes.put(host)
    return bytes
  }
}

/// The unit's answer. (IO-15)
struct UnitGreeting {
  static let fixedByteCount = 44

  var mark = HostGreeting.mark
  var version: UInt16 = 1
  var access: UInt8 = 1
  var identity: (high: UInt64, low: UInt64) = (0, 0)
  var blockCount: UInt64 = 0
  var blockByteCount: UInt32 = 0
  var maximumTransferByteCount: UInt32 = 0
  var depth: UInt16 = 0
  var pathState: UInt8 = 0
  var reserved: UInt8 = 0
  var name: String

  init(name: String) { self.name = name }

  /// Nil when it is none: too short, or of other lengths than it says.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.fixedByteCount, bytes.count == Self.fixedByteCount + Int(bytes[7])
    else { return nil }
    mark = Array(bytes[..<4])
    version = bytes.number(UInt16.self, at: 4)
    access = bytes[6]
    identity = (bytes.number(UInt64.self, at: 8), bytes.number(UInt64.self, at: 16))
    blockCount = bytes.number(UInt64.self, at: 24)
    blockByteCount = bytes.number(UInt32.self, at: 32)
    maximumTransferByteCount = bytes.number(UInt32.self, at: 36)
    depth = bytes.number(UInt16.self, at: 40)
    pathState = bytes[42]
    reserved = bytes[43]
    name = bytes.text(at: 44, byteCount: Int(bytes[7]))
  }

  var bytes: [UInt8] {
    var bytes = mark
    bytes.put(version)
    bytes.put(access)
    bytes.put(UInt8(name.utf8.count))
    bytes.put(identity.high)
    bytes.put(identity.low)
    bytes.put(blockCount)
    bytes.put(blockByteCount)
    bytes.put(maximumTransferByteCount)
    bytes.put(depth)
    bytes.put(pathState)
    bytes.put(reserved)
    bytes.put(name)
    return bytes
  }
}

/// IO-30.
struct CommandRecord {
  static let byteCount = 64

  var opcode: UInt8
  var flags: UInt8 = 0
  var reserved: UInt16 = 0
  var tag: UInt32
  var firstBlock: UInt64 = 0
  var blockCount: UInt32 = 0
  var dataByteCount: UInt32 = 0
  var address: UInt64 = 0
  var key: UInt32 = 0
  /// One of the last 28 bytes.
  var lastReserved: UInt8 = 0

  init(_ opcode: UInt8, tag: UInt32) {
    self.opcode = opcode
    self.tag = tag
  }

  init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    opcode = bytes[0]
    flags = bytes[1]
    reserved = bytes.number(UInt16.self, at: 2)
    tag = bytes.number(UInt32.self, at: 4)
    firstBlock = bytes.number(UInt64.self, at: 8)
    blockCount = bytes.number(UInt32.self, at: 16)
    dataByteCount = bytes.number(UInt32.self, at: 20)
    address = bytes.number(UInt64.self, at: 24)
    key = bytes.number(UInt32.self, at: 32)
    lastReserved = bytes[36...].first { $0 != 0 } ?? 0
  }

  var bytes: [UInt8] {
    var bytes = [opcode, flags]
    bytes.put(reserved)
    bytes.put(tag)
    bytes.put(firstBlock)
    bytes.put(blockCount)
    bytes.put(dataByteCount)
    bytes.put(address)
    bytes.put(key)
    bytes.put(zeroes: 27)
    bytes.put(lastReserved)
    return bytes
  }
}

/// IO-34.
struct ResponseRecord {
  static let byteCount = 16

  var tag: UInt32
  var status: UInt16 = 0
  var firstReserved: UInt16 = 0
  var transferredByteCount: UInt32 = 0
  var lastReserved: UInt32 = 0

  init(tag: UInt32, status: UInt16 = 0, transferredByteCount: UInt32 = 0) {
    self.tag = tag
    self.status = status
    self.transferredByteCount = transferredByteCount
  }

  init?(_ bytes: [UInt8]) {
    guard bytes.count == Self.byteCount else { return nil }
    tag = bytes.number(UInt32.self, at: 0)
    status = bytes.number(UInt16.self, at: 4)
    firstReserved = bytes.number(UInt16.self, at: 6)
    transferredByteCount = bytes.number(UInt32.self, at: 8)
    lastReserved = bytes.number(UInt32.self, at: 12)
  }

  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.put(tag)
    bytes.put(status)
    bytes.put(firstReserved)
    bytes.put(transferredByteCount)
    bytes.put(lastReserved)
    return bytes
  }
}
