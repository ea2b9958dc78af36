import FabricMessaging

/// What is said where keys are proven: the code of all parts so far. (MS-15)
struct KeyTalk {
  static let proofByteCount = 32
  static let nonceByteCount = 32

  enum Step {
    static let challenge: UInt8 = 1
    static let open: UInt8 = 2
    static let opened: UInt8 = 3
  }

  private let key: any ChannelKey
  private var parts: [UInt8] = []

  init(_ key: any ChannelKey) { self.key = key }

  mutating func add(_ part: [UInt8]) {
    parts.put(UInt32(part.count))
    parts += part
  }

  func proof(_ step: UInt8) -> [UInt8] {
    key.code(of: Array("ChannelFabric key 1".utf8) + [step] + parts)
  }

  static func nonce() -> [UInt8] { (0..<nonceByteCount).map { _ in .random(in: 0 ... .max) } }

  /// What lies behind the header of `hello`. (MS-14)
  static func hello(
    name: String, nonce: [UInt8], versions: (UInt16, UInt16) = (1, 1)
  ) -> [UInt8] {
    var bytes: [UInt8] = []
    bytes.put(versions.0)
    bytes.put(versions.1)
    bytes.put(UInt8(name.utf8.count))
    bytes.put(zeroes: 3)
    bytes += nonce
    bytes.put(name)
    return bytes
  }
}
