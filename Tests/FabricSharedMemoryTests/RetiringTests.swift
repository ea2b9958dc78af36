import FabricVerbs
import Synchronization
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: when requests end")
struct RetiringTests {
  /// The pairs' send queues hold 8.
  @Test("SM-14: unsignalled sends end with a signalled one, or when half of the queue is taken")
  func unsignalled() throws {
    let pair = try ConnectedPair()
    let queuePair = try #require(pair.client.queuePair as? SharedMemoryQueuePair)
    let receives = (0..<8 as Range<UInt64>).map {
      ReceiveRequest(id: $0, elements: ScatterGatherList())
    }
    try pair.server.queuePair.postReceive(receives.span)
    func send(_ flags: SendFlags) throws {
      let request = SendRequest(id: 7, opcode: .send, elements: ScatterGatherList(), flags: flags)
      try queuePair.postSend([request].span)
    }
    func retired(afterReceiving count: Int) throws -> UInt64 {
      try pair.run { pair.server.completions.count == count }
      pair.client.poll()
      return queuePair.retiredCount.load(ordering: .relaxed)
    }

    for _ in 0..<2 { try send([]) }
    #expect(try retired(afterReceiving: 2) == 0)
    try send(.signaled)
    #expect(try retired(afterReceiving: 3) == 3)
    for _ in 0..<4 { try send([]) }
    #expect(try retired(afterReceiving: 7) == 3)
    try send([])
    #expect(try retired(afterReceiving: 8) >= 7, "all but what the peer had still to take")
    #expect(pair.client.completions.count == 1)
    pair.close()
  }
}
