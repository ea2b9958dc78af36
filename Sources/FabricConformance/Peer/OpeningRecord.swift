/// What lies behind the header of `open` and `opened`. (MS-3)
struct OpeningRecord {
  static let fixedByteCount = 48

  var lowestVersion: UInt16 = 1
  var highestVersion: UInt16 = 1
  var receiveCount: UInt32 = 64
  var messageByteCount: UInt32 = 1024
  var bufferCount: UInt32 = 0
  var bufferAddress: UInt64 = 0
  var bufferKey: UInt32 = 0
  var bufferByteCount: UInt32 = 0
  var flags: UInt32 = 0
  /// As written; nil: that of the greeting.
  var greetingByteCount: UInt16?
  var firstReserved: UInt16 = 0
  var heartbeatMilliseconds: UInt32 = 60_000
  var secondReserved: UInt32 = 0
  var greeting: [UInt8] = []

  init(greeting: [UInt8]) { self.greeting = greeting }

  /// Nil when there are not even the fixed fields.
  init?(_ body: [UInt8]) {
    guard body.count >= Self.fixedByteCount else { return nil }
    lowestVersion = body.number(UInt16.self, at: 0)
    highestVersion = body.number(UInt16.self, at: 2)
    receiveCount = body.number(UInt32.self, at: 4)
    messageByteCount = body.number(UInt32.self, at: 8)
    bufferCount = body.number(UInt32.self, at: 12)
    bufferAddress = body.number(UInt64.self, at: 16)
    bufferKey = body.number(UInt32.self, at: 24)
    bufferByteCount = body.number(UInt32.self, at: 28)
    flags = body.number(UInt32.self, at: 32)
    greetingByteCount = body.number(UInt16.self, at: 36)
    firstReserved = body.number(UInt16.self, at: 38)
    heartbeatMilliseconds = body.number(UInt32.self, at: 40)
    secondReserved = body.number(UInt32.self, at: 44)
    greeting = Array(body[Self.fixedByteCount...])
  }

  var bytes: [UInt8] {
    var bytes: [UInt8] = []
    bytes.put(lowestVersion)
    bytes.put(highestVersion)
    bytes.put(receiveCount)
    bytes.put(messageByteCount)
    bytes.put(bufferCount)
    bytes.put(bufferAddress)
    bytes.put(bufferKey)
    bytes.put(bufferByteCount)
    bytes.put(flags)
    bytes.put(greetingByteCount ?? UInt16(greeting.count))
    bytes.put(firstReserved)
    bytes.put(heartbeatMilliseconds)
    bytes.put(secondReserved)
    return bytes + greeting
  }

  /// What in it breaks MS-3, beginning with what was expected.
  var fault: String? {
    let checks: [(Bool, String)] = [
      (lowestVersion <= 1 && highestVersion >= 1, "expected versions with 1 among them"),
      ((8...16384).contains(receiveCount), "expected 8 to 16384 receives"),
      ((256...65536).contains(messageByteCount), "expected receives of 256 to 65536 bytes"),
      (bufferCount <= 4096, "expected at most 4096 buffers"),
      (bufferByteCount <= 16 << 20, "expected buffers of at most 16 MiB"),
      (flags & ~1 == 0, "expected no flag but bit 0"),
      (greeting.count <= 160, "expected at most 160 bytes of greeting"),
      (
        greetingByteCount.map(Int.init) == greeting.count,
        "expected as many bytes of greeting as it says"
      ),
      (
        !bufferAddress.addingReportingOverflow(
          UInt64(min(bufferCount, 4096)) * (4096 + UInt64(bufferByteCount))
        ).overflow, "expected buffers below the last address"
      ),
      (firstReserved == 0 && secondReserved == 0, "expected zeroes in reserved fields"),
    ]
    return checks.first { !$0.0 }.map { "\($0.1), got \(self)" }
  }
}

extension OpeningRecord: CustomStringConvertible {
  var description: String {
    """
    versions \(lowestVersion) to \(highestVersion), \(receiveCount) receives of \(messageByteCount) \
    bytes, \(bufferCount) buffers of \(bufferByteCount) bytes, flags \(flags), reserved \
    \(firstReserved) and \(secondReserved), heartbeat \(heartbeatMilliseconds) ms, greeting of \
    \(greetingByteCount ?? UInt16(greeting.count)) bytes
    """
  }
}
