import FabricVerbs
import FabricWire

/// What each side tells of itself before anything else: the body of `open` and `opened`. (MS-3)
///
/// | Offset | Field |
/// |---|---|
/// | 16 | lowest and highest version u16 each; equal in `opened`: the one chosen |
/// | 20 | receives posted u32 |
/// | 24 | bytes of a receive u32 |
/// | 28 | buffers u32 |
/// | 32 | address of the first buffer's headroom u64 |
/// | 40 | remote key u32 |
/// | 44 | bytes of a buffer's data u32 |
/// | 48 | flags u32: bit 0, writes with immediate are understood |
/// | 52 | bytes of greeting u16, 0 u16 |
/// | 56 | heartbeat interval in milliseconds u32, 0 u32 |
/// | 64 | greeting |
struct Opening: Equatable {
  static let currentVersion: UInt16 = 1
  static let fixedByteCount = 64
  static let maximumGreetingByteCount = 160
  static let maximumByteCount = fixedByteCount + maximumGreetingByteCount

  var versions: ClosedRange<UInt16> = currentVersion...currentVersion
  var receiveCount: UInt32
  var messageByteCount: UInt32
  var bufferCount: UInt32
  var bufferAddress: UInt64
  var bufferKey: RemoteKey
  var bufferByteCount: UInt32
  var takesImmediate: Bool
  var heartbeatMilliseconds: UInt32
  var greeting: [UInt8]

  /// Why an opening cannot be used.
  struct Malformed: Error, Equatable { let words: String }

  func write(to buffer: WireBuffer) -> Int {
    buffer.set(versions.lowerBound, at: 16)
    buffer.set(versions.upperBound, at: 18)
    buffer.set(receiveCount, at: 20)
    buffer.set(messageByteCount, at: 24)
    buffer.set(bufferCount, at: 28)
    buffer.set(bufferAddress, at: 32)
    buffer.set(bufferKey.rawValue, at: 40)
    buffer.set(bufferByteCount, at: 44)
    buffer.set(UInt32(takesImmediate ? 1 : 0), at: 48)
    buffer.set(UInt32(greeting.count), at: 52)
    buffer.set(heartbeatMilliseconds, at: 56)
    buffer.set(UInt32(0), at: 60)
    buffer.copy(greeting, at: Self.fixedByteCount)
    return Self.fixedByteCount + greeting.count
  }

  init(
    receiveCount: UInt32, messageByteCount: UInt32, bufferCount: UInt32, bufferAddress: UInt64,
    bufferKey: RemoteKey, bufferByteCount: UInt32, takesImmediate: Bool,
    heartbeatMilliseconds: UInt32, greeting: [UInt8]
  ) {
    self.receiveCount = receiveCount
    self.messageByteCount = messageByteCount
    self.bufferCount = bufferCount
    self.bufferAddress = bufferAddress
    self.bufferKey = bufferKey
    self.bufferByteCount = bufferByteCount
    self.takesImmediate = takesImmediate
    self.heartbeatMilliseconds = heartbeatMilliseconds
    self.greeting = greeting
  }

  /// Reads what a peer sent; nothing about it is trusted. (MS-4)
  init(_ view: WireView) throws(Malformed) {
    guard view.byteCount >= Self.fixedByteCount else {
      throw Malformed(
        words: "expected at least \(Self.fixedByteCount) bytes of opening, got \(view.byteCount)")
    }
    try Self.checkVersions(view.uint16(at: 16), view.uint16(at: 18))
    receiveCount = view.uint32(at: 20)
    messageByteCount = view.uint32(at: 24)
    bufferCount = view.uint32(at: 28)
    bufferAddress = view.uint64(at: 32)
    bufferKey = RemoteKey(rawValue: view.uint32(at: 40))
    bufferByteCount = view.uint32(at: 44)
    takesImmediate = view.uint32(at: 48) & 1 != 0
    heartbeatMilliseconds = view.uint32(at: 56)
    let greetingCount = Int(view.uint16(at: 52))
    guard ChannelOptions.receiveCounts.contains(Int(receiveCount)),
      ChannelOptions.messageByteCounts.contains(Int(messageByteCount)),
      ChannelOptions.bufferCounts.contains(Int(bufferCount)),
      ChannelOptions.bufferByteCounts.contains(Int(bufferByteCount)),
      greetingCount <= Self.maximumGreetingByteCount,
      greetingCount == view.byteCount - Self.fixedByteCount
    else { throw Malformed(words: "the peer's opening has limits out of range") }
    greeting = view.slice(Self.fixedByteCount, greetingCount).array
  }

  /// Shorter than this no peer has a side beat: each beat is a wake-up.
  static let shortestInterval: Duration = .milliseconds(100)

  /// How often the side that got this opening beats: as often as the one who is in more of a hurry wants
  /// to hear of the other. (MS-11)
  func interval(own: Duration) -> Duration {
    guard heartbeatMilliseconds > 0 else { return own }
    let wanted = Duration.milliseconds(Int64(heartbeatMilliseconds))
    return min(own, max(wanted, Self.shortestInterval))
  }

  /// Throws unless this side's version is between them.
  static func checkVersions(_ low: UInt16, _ high: UInt16) throws(Malformed) {
    guard low <= high, low <= currentVersion, high >= currentVersion else {
      throw Malformed(
        words: "expected messaging version \(currentVersion), the peer speaks \(low) to "
          + "\(high): update the older side")
    }
  }
}
