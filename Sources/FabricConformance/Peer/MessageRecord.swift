/// A message of the channel, by hand: 16 bytes of header and what follows. (MS-1)
struct MessageRecord {
  /// MS-2.
  enum Kind {
    static let open: UInt8 = 1
    static let opened: UInt8 = 2
    static let refused: UInt8 = 3
    static let user: UInt8 = 4
    static let pushed: UInt8 = 5
    static let credit: UInt8 = 6
    static let bufferReturn: UInt8 = 7
    static let close: UInt8 = 8
    static let hello: UInt8 = 9
    static let challenge: UInt8 = 10
    static let names = [
      "", "open", "opened", "refused", "user", "pushed", "credit", "buffer return", "close",
      "hello",
      "challenge",
    ]
  }

  static let headerByteCount = 16
  static let noBuffer: UInt16 = 0xffff

  var type: UInt8
  var bufferCount: UInt8 = 0
  var kind: UInt16 = 0
  var tag: UInt32 = 0
  var reposted: UInt32 = 0
  var returns: (UInt16, UInt16) = (noBuffer, noBuffer)
  var body: [UInt8] = []

  init(_ type: UInt8, kind: UInt16 = 0, tag: UInt32 = 0, body: [UInt8] = []) {
    self.type = type
    self.kind = kind
    self.tag = tag
    self.body = body
  }

  /// Nil when the bytes are fewer than a header's.
  init?(_ bytes: [UInt8]) {
    guard bytes.count >= Self.headerByteCount else { return nil }
    type = bytes[0]
    bufferCount = bytes[1]
    kind = bytes.number(UInt16.self, at: 2)
    tag = bytes.number(UInt32.self, at: 4)
    reposted = bytes.number(UInt32.self, at: 8)
    returns = (bytes.number(UInt16.self, at: 12), bytes.number(UInt16.self, at: 14))
    body = Array(bytes[Self.headerByteCount...])
  }

  var bytes: [UInt8] {
    var bytes = [type, bufferCount]
    bytes.put(kind)
    bytes.put(tag)
    bytes.put(reposted)
    bytes.put(returns.0)
    bytes.put(returns.1)
    return bytes + body
  }
}

extension MessageRecord: CustomStringConvertible {
  /// Decoded, on one line.
  var description: String {
    let name = Int(type) < Kind.names.count && type > 0 ? Kind.names[Int(type)] : "type \(type)"
    var words = "\(name), kind \(kind), tag \(tag), reposted \(reposted)"
    if bufferCount > 0 { words += ", \(bufferCount) buffers named" }
    for id in [returns.0, returns.1] where id != Self.noBuffer { words += ", buffer \(id) back" }
    switch type {
    case Kind.open, Kind.opened:
      guard let opening = OpeningRecord(body) else { return words + ", a short opening" }
      let greeting =
        type == Kind.open
        ? HostGreeting(opening.greeting)?.description : UnitGreeting(opening.greeting)?.description
      return words + ": \(opening)" + (greeting.map { "; \($0)" } ?? "")
    case Kind.refused: return words + ": \"\(body.text(at: 0, byteCount: body.count))\""
    case Kind.user where blockWords != nil: return words + ": \(blockWords!)"
    default: return body.isEmpty ? words : words + ", \(body.count) bytes"
    }
  }
}
