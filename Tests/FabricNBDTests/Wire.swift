import FabricNBDProtocol
import FabricWire

@testable import FabricNBD

/// What a client sends, as bytes.
enum Wire {
  /// The client's flags: fixed newstyle, no zeroes.
  static let clientFlags: [UInt8] = [0, 0, 0, 3]

  static func big(_ value: some FixedWidthInteger & UnsignedInteger) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.appendBig(value)
    return bytes
  }

  static func option(_ number: UInt32, _ data: [UInt8] = []) -> [UInt8] {
    big(NBD.optionMagic) + big(number) + big(UInt32(data.count)) + data
  }

  static func name(_ text: String) -> [UInt8] { big(UInt32(text.utf8.count)) + Array(text.utf8) }

  static func go(_ name: String, info: [UInt16] = []) -> [UInt8] {
    option(NBD.Option.go, Self.name(name) + big(UInt16(info.count)) + info.flatMap { big($0) })
  }

  static func context(
    _ option: UInt32, _ name: String, _ queries: [String]
  ) -> [UInt8] {
    Self.option(
      option, Self.name(name) + big(UInt32(queries.count)) + queries.flatMap { Self.name($0) })
  }

  static func optionReply(_ option: UInt32, _ type: UInt32, _ data: [UInt8] = []) -> [UInt8] {
    big(NBD.optionReplyMagic) + big(option) + big(type) + big(UInt32(data.count)) + data
  }

  static func request(
    _ command: NBD.Command, flags: NBD.CommandFlags = [], cookie: UInt64 = 1, offset: UInt64 = 0,
    length: UInt32 = 0
  ) -> [UInt8] {
    request(command.rawValue, flags.rawValue, cookie, offset, length)
  }

  static func request(
    _ type: UInt16, _ flags: UInt16, _ cookie: UInt64, _ offset: UInt64, _ length: UInt32
  ) -> [UInt8] {
    big(NBD.requestMagic) + big(flags) + big(type) + big(cookie) + big(offset) + big(length)
  }

  static func view<Result>(_ bytes: [UInt8], _ body: (WireView) -> Result) -> Result {
    // An empty array has no address.
    unsafe (bytes + [0]).withUnsafeBytes { raw in
      body(unsafe WireView(raw.baseAddress!, byteCount: bytes.count))
    }
  }
}

extension NBDHandshake {
  /// Takes everything, and returns how it ended and what was said.
  mutating func take(_ bytes: [UInt8]) -> (outcome: Outcome, output: [UInt8]) {
    var rest = bytes[...]
    var said: [UInt8] = []
    while true {
      let (taken, needed, outcome) = Wire.view(Array(rest)) { step($0) }
      said += takeOutput()
      rest = rest.dropFirst(taken)
      if outcome != .continues { return (outcome, said) }
      if taken == 0 {
        precondition(needed > rest.count, "it has all that it said it needed")
        return (outcome, said)
      }
    }
  }
}
