import Testing

@testable import FabricRDMA

@Suite("SendRing")
struct SendRingTests {
  @Test("requests of which nothing is heard take no room, and never become a quarter of the queue")
  func quiet() {
    let ring = SendRing(capacity: 64, keepsMemory: false)
    #expect(!ring.isDue(15))
    ring.advance(15, isHeard: false)
    #expect(ring.room == 64)
    #expect(ring.isDue(1))
    ring.advance(1, isHeard: true)
    #expect(ring.room == 48)
    #expect(ring.end(before: 16) == 16)
    #expect(ring.room == 64)
    #expect(ring.count == 0)
  }

  @Test("a list that the device did not take all of leaves room, and as much is heard of as before")
  func takenBack() {
    let ring = SendRing(capacity: 64, keepsMemory: false)
    ring.advance(8, isHeard: true)
    ring.advance(16, isHeard: true)
    ring.takeBack(10)
    #expect(ring.next == 14)
    #expect(ring.count == 14)
    #expect(ring.room == 50)
    #expect(!ring.isDue(15))
    #expect(ring.isDue(16))
    #expect(ring.end(before: 8) == 8)
    #expect(ring.room == 58)
  }

  @Test("a full ring has no room, whatever is heard of it")
  func full() {
    let ring = SendRing(capacity: 4, keepsMemory: false)
    #expect(ring.isDue(1))
    for _ in 0..<4 { ring.advance(1, isHeard: true) }
    #expect(ring.room == 0)
    #expect(ring.end(before: 2) == 2)
    #expect(ring.room == 2)
  }
}
