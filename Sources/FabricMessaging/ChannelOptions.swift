/// What a channel is made of; each side chooses its own and learns the other's in the opening.
public struct ChannelOptions: Sendable {
  /// How the end of a transfer is told to the peer.
  public enum Indication: Sendable {
    /// Write with immediate where both sides' adapters have it.
    case automatic
    /// A message of its own behind the write, as on adapters without immediates.
    case separate
  }

  static let receiveCounts = 8...16384
  static let messageByteCounts = 256...65536
  static let bufferCounts = 0...4096
  static let bufferByteCounts = 0...(16 << 20)

  /// Receives kept posted, which is the peer's credit; 8 to 16384.
  public var receiveCount = 256
  /// Bytes of the longest small message with its 16-byte header; 256 to 65536.
  public var messageByteCount = 256
  /// Messages that may be under way from this side.
  public var sendCount = 256
  /// Buffers advertised for the peer's transfers; 0 to 4096.
  public var bufferCount = 32
  /// Bytes of data in each; whole pages, at most 16 MiB.
  public var bufferByteCount = 128 << 10
  public var indication = Indication.automatic
  /// After this long without sending, a beat is sent; after five without hearing anything the
  /// peer counts as dead. The shorter one of both sides holds; a peer's counts as 100 ms at least. (MS-11)
  public var heartbeat: Duration = .seconds(2)
  /// Passed to the peer in the opening; at most 160 bytes.
  public var greeting: [UInt8] = []
  /// For who connects: proves that it has this key, and opens nothing with a peer that does not
  /// prove the same. (MS-14)
  public var key: (any ChannelKey)?
  /// For who listens: takes only peers that prove one of these keys. (MS-14)
  public var keys: (any ChannelKeyring)?

  public init() {}

  func validate() throws(ChannelOpenError) {
    guard Self.receiveCounts.contains(receiveCount),
      Self.messageByteCounts.contains(messageByteCount), messageByteCount % 8 == 0,
      Self.bufferCounts.contains(bufferCount), Self.bufferByteCounts.contains(bufferByteCount),
      bufferByteCount % 4096 == 0, 8...16384 ~= sendCount,
      greeting.count <= Opening.maximumGreetingByteCount,
      key.map({ ChannelPeer.isKeyName($0.name) }) ?? true
    else {
      throw .invalidOptions(
        "expected 8 to 16384 receives and sends, messages of 256 to 65536 bytes, at most 4096 "
          + "buffers of whole pages up to 16 MiB, a greeting of at most 160 bytes and a key's name "
          + "of 1 to 64 bytes without white space, got \(self)")
    }
  }
}
