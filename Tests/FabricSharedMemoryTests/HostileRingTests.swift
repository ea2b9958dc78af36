import FabricPlatform
import FabricVerbs
import FabricWire
import Foundation
import Testing

@testable import FabricSharedMemory

@Suite("Shared-memory adapter: hostile peers", .serialized)
struct HostileRingTests {
  @Test("SM-21: a ring without an end, bad words and bad lengths fail the connection")
  func badRecords() throws {
    let victim = try Victim()
    let key = try #require(victim.memory.remoteKey).rawValue
    let counts = UInt64(key) << 32
    let records: [(UInt32, [UInt64])] = [
      // Padding for ever; padding of no lines and of too many.
      (Record.padding | 1 << 16, []), (Record.padding, []), (Record.padding | 9 << 16, []),
      // No such kind; an inline read; more inline bytes than a record holds.
      (77, []), (5 | Record.inlineFlag, []), (1 | Record.inlineFlag | 60000 << 16, []),
      // A send of more than the receive; of memory that was not shared.
      (1, [0, 0, 0, 1 << 40, 1 << 13]), (1, [0, 0, 0x4444 << 32, 64]),
      // Writes: an unknown key; outside; a wrap; two elements whose sum exceeds 32 bits.
      (3, [UInt64(key ^ 1) << 32, victim.memory.address, 1 << 44, 8]),
      (3, [counts, victim.memory.address + 4090, 1 << 44, 8]),
      (3, [counts, .max - 3, 1 << 44, 8]),
      (3, [counts, victim.memory.address, 1 << 44, 0x8000_0010_8000_0000]),
    ]
    for (index, (word, fields)) in records.enumerated() {
      try victim.suffers("record \(index)", expecting: "refused") { peer in
        try peer.announceMemory()
        peer.fillRing(word: word, fields)
      }
    }
  }

  @Test("SM-42: an opening that is not one reaches nobody")
  func badOpenings() throws {
    let victim = try Victim()
    let size = QueueSegment.byteCount(lineCount: 64)
    func hello(_ change: (inout [UInt8]) -> Void) -> [UInt8] {
      var bytes = ControlMessage.hello(
        ControlMessage.Opening(
          segmentAddress: 0, segmentByteCount: size, lineCount: 64, isDirect: false,
          queuePairNumber: 1, privateData: [])
      ).bytes
      change(&bytes)
      return bytes
    }
    let file = try MemoryFile(name: "hostile", byteCount: size)
    let number = file.descriptor.rawValue
    let openings: [([UInt8], [CInt])] = [
      (Array("GET / HTTP/1.0".utf8), []), ([UInt8](repeating: 0xff, count: 2000), [number]),
      (hello { $0[1] = 99 }, [number]), (hello { $0[2] = 1 }, [number]),
      (hello { $0[20] = 63 }, [number]), (hello { $0[23] = 0x7f }, [number]),
      (hello { $0[16] = 1 }, [number]), (hello { $0[0] = 2 }, [number]),
      (hello { _ in }, []), (hello { _ in }, [number, number]),
    ]
    for (index, (bytes, descriptors)) in openings.enumerated() {
      let socket = try SequencedSocket.connect(to: victim.path)
      try socket.send(bytes, descriptors: descriptors)
      var answer = SequencedSocket.Received.nothing
      let deadline = MonotonicTime.now + .seconds(5)
      var isOver = false
      while !isOver && MonotonicTime.now < deadline {
        try victim.pollEvents()
        unsafe withUnsafeTemporaryAllocation(byteCount: 1024, alignment: 8) {
          answer = unsafe socket.receive(into: $0)
        }
        // Another version is told why before the victim hangs up.
        if case .hangUp = answer { isOver = true }
      }
      guard case .hangUp = answer else {
        Issue.record("opening \(index): expected the victim to hang up, got \(answer)")
        continue
      }
    }
    #expect(victim.requestCount == 0)
    _ = try victim.meet()
    try victim.part()
  }

  @Test("SM-22: a peer cannot claim to have consumed what was not sent")
  func impossibleProgress() throws {
    for claim in [1000, .max, .max / 2] as [UInt64] {
      let victim = try Victim()
      let peer = try victim.meet()
      let sends = [
        SendRequest(
          id: 9, opcode: .send, elements: ScatterGatherList(victim.memory.element(byteCount: 8)))
      ]
      try victim.queuePair?.postSend(sends.span)
      peer.segment.consumed.storeReleasing(claim)
      _ = victim.poll()
      #expect(victim.queuePair?.state == .error, "claim \(claim)")
      try victim.part()
    }
  }

  @Test("SM-11, SM-21: whatever lies in a ring, the victim lives and serves the next peer")
  func fuzz() throws {
    let seed = UInt64.random(in: 0 ... .max)
    print("hostile ring: seed \(seed)")
    var state = seed
    func random() -> UInt64 {
      state = state &* 6_364_136_223_846_793_005 &+ 1_442_695_040_888_963_407
      return state >> 31 ^ state << 20
    }
    let victim = try Victim()
    let key = try #require(victim.memory.remoteKey).rawValue
    for _ in 0..<300 {
      let peer = try victim.meet()
      for line in 0..<UInt64(HostilePeer.lineCount) {
        let place = unsafe peer.segment.line(line)
        for offset in stride(from: 0, to: 64, by: 8) {
          unsafe SharedWord64(at: place + offset).store(random())
        }
        // Half of them nearly right.
        if random() & 1 == 0 {
          let word = UInt32(random() % 6) | UInt32(random() & 1) << 8 | UInt32(random() & 63) << 16
          unsafe SharedWord32(at: place).store(word)
          unsafe SharedWord32(at: place + 12).store(key)
          unsafe SharedWord64(at: place + 16).store(victim.memory.address + random() & 8191)
        }
      }
      peer.segment.consumed.store(random())
      peer.segment.failure.store(UInt32(truncatingIfNeeded: random()))
      peer.segment.readsDone.store(random())
      for _ in 0..<8 { _ = victim.poll() }
      try victim.part()
    }
    _ = try victim.meet()
    #expect(victim.queuePair?.state == .readyToSend, "seed \(seed)")
    try victim.part()
  }
}
