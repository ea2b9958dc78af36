import FabricAdapterParts
import FabricPlatform
import FabricVerbs
import Foundation
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: peers at the door")
struct DoorTests {
  @Test("SM-49: silent peers take no more than their places, and keep nobody out")
  func silentPeers() throws {
    let pair = try ConnectedPair()
    defer { pair.close() }
    let events = try #require(pair.server.events as? EventChannel)
    let known = events.sourceCount
    let silent = try (0..<300).map { _ in
      let socket = try SequencedSocket.connect(to: pair.path)
      // The listener's backlog is not endless: each is taken before the next comes.
      try pair.pollEvents()
      return socket
    }
    try pair.run { events.sourceCount == known + Door.limit }
    #expect(isHungUp(silent[0]) && isHungUp(silent[171]), "the oldest made room")
    #expect(!isHungUp(silent[172]) && !isHungUp(silent[299]))

    // An honest one, after them all, is served.
    let late = try ConnectedPair.End(.isolated)
    let other = try ConnectedPair.End(.isolated)
    try late.adapter.connect(
      late.queuePair, to: pair.address, privateData: [], timeout: .seconds(5), events: late.events)
    let deadline = MonotonicTime.now + .seconds(5)
    while !late.isEstablished && MonotonicTime.now < deadline {
      if case .connectRequest(let request)? = pair.server.events.poll() {
        try request.accept(other.queuePair, privateData: [], events: other.events)
      }
      try late.pollEvents()
    }
    #expect(late.isEstablished)
    late.queuePair.destroy()
    other.queuePair.destroy()
  }

  private func isHungUp(_ socket: SequencedSocket) -> Bool {
    unsafe withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) { raw in
      if case .hangUp = unsafe socket.receive(into: raw) { true } else { false }
    }
  }
}
