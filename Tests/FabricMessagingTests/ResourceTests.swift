import FabricCompletion
import FabricMessaging
import FabricVerbs
import TestSupport
import Testing

@Suite("Messaging: resources", .serialized)
struct ResourceTests {
  private func mappingCount() throws -> Int {
    try ProcessFiles.own.maps().count { $0.contains("/memfd:fabric") }
  }

  private func descriptorCount() throws -> Int {
    try ProcessFiles.own.descriptors().count { $0.contains("memfd:fabric") }
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
}
