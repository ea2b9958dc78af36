/// Private data on the wire. InfiniBand's messages have fields of a fixed size, so that nobody could
/// tell where it ends: there a byte with its length goes in front. iWARP's have a length.
enum PrivateData {
  /// Bytes that fit into every message of the connection manager: a request of InfiniBand has 92,
  /// of which the manager keeps 36 for itself.
  static func limit(isIWARP: Bool) -> Int { isIWARP ? 196 : 55 }

  static func encode(_ data: [UInt8], isIWARP: Bool) -> [UInt8] {
    isIWARP ? data : [UInt8(data.count)] + data
  }

  /// What a peer sent; nil when it is longer than what came.
  static func decode(_ data: [UInt8], isIWARP: Bool) -> [UInt8]? {
    if isIWARP { return data }
    guard let count = data.first else { return [] }
    guard Int(count) < data.count else { return nil }
    return Array(data.dropFirst().prefix(Int(count)))
  }
}
