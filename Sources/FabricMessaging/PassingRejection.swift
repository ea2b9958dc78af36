import FabricVerbs

/// What an acceptor says who rejects a connection for reasons that pass: it has no room for a
/// channel now, or nobody listens any more. (MS-18)
enum PassingRejection {
  /// Text does not begin with it.
  static let mark: UInt8 = 2
  static let maximumByteCount = 256

  static func privateData(_ words: String) -> [UInt8] {
    [mark] + words.utf8.prefix(maximumByteCount - 1)
  }

  /// The words; nil where the private data is something else.
  static func words(in privateData: [UInt8]) -> String? {
    guard privateData.first == mark else { return nil }
    return String(decoding: privateData.dropFirst(), as: UTF8.self)
  }
}

extension ChannelOpenError {
  /// Why the fabric did not connect.
  init(connecting error: ConnectError) {
    if case .rejected(let data) = error, let words = PassingRejection.words(in: data) {
      self = .unavailable(words)
    } else {
      self = .connect(error)
    }
  }
}
