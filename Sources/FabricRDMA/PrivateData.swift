/// Private data on the wire. InfiniBand's messages have fields of a fixed size, so that nobody could
/// tell where it ends: there a byte with its length goes in front, unless the protocol says how long it
/// is. iWARP's have a length.
struct PrivateDataForm: Sendable {
  private let isIWARP: Bool
  private let hasLength: Bool

  /// - Parameter isPlain: as the protocol has it, whatever the device.
  init(isIWARP: Bool, isPlain: Bool) {
    self.isIWARP = isIWARP
    hasLength = !isIWARP && !isPlain
  }

  /// Bytes that fit into every message of the connection manager: a request of InfiniBand has 92,
  /// of which the manager keeps 36 for itself.
  var limit: Int { isIWARP ? 196 : hasLength ? 55 : 56 }

  func encode(_ data: [UInt8]) -> [UInt8] { hasLength ? [UInt8(data.count)] + data : data }

  /// What a peer sent, with what its message was filled up with where there is no length; nil when it is
  /// longer than what came.
  func decode(_ data: [UInt8]) -> [UInt8]? {
    guard hasLength else { return data }
    guard let count = data.first else { return [] }
    guard Int(count) < data.count else { return nil }
    return Array(data.dropFirst().prefix(Int(count)))
  }
}
