import FabricCompletion
import FabricMessaging
import FabricPlatform
import FabricVerbs
import Foundation
import Testing

@Suite("Messaging: resources", .serialized)
struct ResourceTests {
  private func mappingCount() throws -> Int {
    try String(contentsOfFile: "/proc/self/maps", encoding: .utf8)
      .split(separator: "\n").count { $0.contains("/memfd:fabric") }
  }

  private func descriptorCount() throws -> Int {
    try FileManager.default.contentsOfDirectory(atPath: "/proc/self/fd").count { name in
      (try? FileManager.default.destinationOfSymbolicLink(atPath: "/proc/self/fd/\(name)"))?
        .contains("memfd:fabric") ?? false
    }
  }

  @Test("a thousand channels come and go: nothing of them is left")
  func channelsLeaveNothing() throws {
    var options = ChannelOptions()
    options.bufferCount = 1
    options.bufferByteCount = 4096
    let pair = try Pair(options)
    _ = try pair.opened()
    func openAndClose() throws {
      var result: Result<Channel, ChannelOpenError>?
      let handler = Recorder()
      pair.client.connect(to: pair.address, options: options, handler: handler) { result = $0 }
      try pair.run { result != nil }
      let channel = try #require(result).get()
      #expect(try mappingCount() > 0)
      channel.close()
      try pair.run { handler.closed != nil && pair.server.channelCount == 1 }
      for _ in 0..<64 { pair.service.turn() }
    }
    let before = (try mappingCount(), try descriptorCount())
    for _ in 0..<1000 { try openAndClose() }
    let after = (try mappingCount(), try descriptorCount())
    // Other suites run beside this one and have channels of their own; a thousand of these have
    // more than four thousand mappings and descriptors each way.
    #expect(after.0 < before.0 + 1000 && after.1 < before.1 + 1000, "\(before), then \(after)")
  }

  /// Both ends of all of them, so twice the work of a unit, in a debug build beside other tests:
  /// hence three hundredths here for the one of an optimised unit.
  @Test("a hundred idle channels use next to nothing of a processor")
  func idle() throws {
    let pair = try Pair(options(.automatic))
    var opened = 0
    for _ in 1..<100 {
      pair.client.connect(to: pair.address, options: options(.automatic), handler: Recorder()) {
        if case .success = $0 { opened += 1 }
      }
    }
    try pair.run { opened == 99 }
    func threadTime() -> UInt64 {
      var time = timespec()
      unsafe clock_gettime(CLOCK_THREAD_CPUTIME_ID, &time)
      return UInt64(time.tv_sec) * 1_000_000_000 + UInt64(time.tv_nsec)
    }
    // The last greetings are over.
    pair.service.run(until: { false }, deadline: .now + .milliseconds(300))
    let before = threadTime()
    pair.service.run(until: { false }, deadline: .now + .seconds(3))
    let used = threadTime() - before
    #expect(used < 90_000_000, "\(used / 1000) µs of 3 s")
    #expect(pair.client.channelCount == 100)
  }
}
