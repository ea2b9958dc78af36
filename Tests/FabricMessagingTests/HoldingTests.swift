import FabricMessaging
import FabricPlatform
import FabricWire
import Testing

@Suite("Messaging: holding messages back")
struct HoldingTests {
  @Test("MS-13: a peer that is held sends what its credit allows, lives on, and goes on later")
  func holding() throws {
    var options = ChannelOptions()
    options.receiveCount = 16
    options.heartbeat = .milliseconds(20)
    let pair = try Pair(options)
    let client = try pair.opened()
    let server = try #require(pair.accepted)
    var sent = 0
    func pour() {
      withPayload { payload in
        while client.send(kind: 1, tag: UInt32(sent), payload: payload) == nil { sent += 1 }
      }
      client.flush()
    }
    // More than five intervals, of beats only.
    func rest() throws {
      let start = MonotonicTime.now
      try pair.run { MonotonicTime.now.nanoseconds(since: start) > 200_000_000 }
    }
    server.holdMessages()
    // The opening and the beats before have credit that may still be under way.
    var most = 0
    repeat {
      most = sent
      pour()
      try pair.run { pair.serverHandler.messages.count == sent }
      try rest()
    } while sent > most && most <= 16
    // All but what is kept for the channel's own.
    #expect(most == 14 || most == 13)
    let canSend = pair.clientHandler.canSendCount
    try rest()
    pour()
    #expect(sent == most, "credit came back for messages that are held")
    #expect(client.isOpen && server.isOpen, "both still hear each other")
    #expect(pair.clientHandler.canSendCount == canSend)

    server.resumeMessages()
    try pair.run { pair.clientHandler.canSendCount > canSend }
    pour()
    #expect(sent > most)
    try pair.run { pair.serverHandler.messages.count == sent }
    #expect(pair.serverHandler.messages.map(\.tag) == (0..<sent).map { UInt32($0) })
  }

  private func withPayload(_ body: (WireView) throws -> Void) rethrows {
    try unsafe withUnsafeTemporaryAllocation(byteCount: 8, alignment: 8) { raw in
      unsafe raw.initializeMemory(as: UInt8.self, repeating: 1)
      try unsafe body(WireView(UnsafeRawBufferPointer(raw)))
    }
  }
}
