import FabricPlatform
import FabricVerbs
import Synchronization
import Testing

@testable import FabricSharedMemory

/// A thread of the peer that does one thing over and over until it is ended.
private final class AttackingThread {
  private final class Flag: Sendable { let isSet = Atomic(false) }
  private let flag = Flag()
  private let thread: SystemThread

  init(_ attack: @escaping @Sendable (UInt64) -> Void) throws {
    let flag = self.flag
    thread = try SystemThread.start(name: "attack") {
      var turn: UInt64 = 0
      while !flag.isSet.load(ordering: .relaxed) {
        attack(turn)
        turn &+= 1
      }
    }
  }

  func end() {
    flag.isSet.store(true, ordering: .relaxed)
    thread.join()
  }
}

@Suite("Shared-memory adapter: hostile threads", .serialized)
struct HostileThreadTests {
  /// The key opens the middle page; the peer has the target lie within and without, the length fit
  /// and not, the record say inline and not, while the victim checks and copies.
  @Test(
    "SM-20: what a peer changes during the check opens nothing", arguments: [false, true])
  func changingRecords(_ isInline: Bool) throws {
    let victim = try Victim()
    let region = try victim.domain.allocate(
      byteCount: 3 * 4096, access: [.localWrite, .remoteWrite])
    let source = try MemoryFile(name: "hostile", byteCount: 1 << 16)
    let bytes = try source.map(.readWrite)
    unsafe bytes.bytes.initializeMemory(as: UInt8.self, repeating: 0xEE)
    let middle = region.address + 4096
    for _ in 0..<100 {
      let key = try victim.domain.grant(
        .remoteWrite, to: region, offset: 4096, byteCount: 4096, only: nil)
      try victim.suffers("a thread that changes records", expecting: "refused") { peer in
        try peer.announce(source.descriptor, byteCount: 1 << 16)
        let word: UInt32 = isInline ? 3 | Record.inlineFlag | 232 << 16 : 3
        let keyField = UInt64(key.rawValue) << 32
        peer.fillRing(word: word, [keyField, middle, 1 << 44, 8])
        let thread = try AttackingThread { turn in
          for line in 0..<UInt64(HostilePeer.lineCount) {
            let place = unsafe peer.segment.line(line)
            let isOutside = (turn &+ line) & 1 != 0
            unsafe SharedWord64(at: place + 16).store(isOutside ? middle - 200 : middle)
            unsafe SharedWord64(at: place + 32).store(isOutside ? 6000 : 8)
            if isInline {
              let count: UInt32 = isOutside ? 8 : 200
              unsafe SharedWord32(at: place).store(3 | Record.inlineFlag | count << 16)
            }
          }
        }
        defer { thread.end() }
        try victim.wait("the victim sees a record that is none") {
          _ = victim.poll()
          return victim.queuePair?.state == .error
        }
      }
      victim.domain.revoke(key)
    }
    let all = unsafe region.bytes
    #expect(unsafe all[..<4096].allSatisfy { $0 == 0 }, "the page before was written to")
    #expect(unsafe all[8192...].allSatisfy { $0 == 0 }, "the page behind was written to")
    victim.domain.deregister(region)
    victim.close()
  }

  @Test("SM-22: a thread that moves its words back and forth ends its own connection only")
  func changingWords() throws {
    let victim = try Victim()
    for _ in 0..<50 {
      try victim.suffers("a thread that changes words", expecting: "the peer") { peer in
        let thread = try AttackingThread { turn in
          let value = turn &* 0x9E37_79B9_7F4A_7C15
          peer.segment.consumed.store(value >> 60)
          peer.segment.failure.store(UInt32(truncatingIfNeeded: value >> 28 & 31))
          peer.segment.readsDone.store(value)
          peer.segment.armedForReceives.store(UInt32(truncatingIfNeeded: value))
          peer.segment.armedForSends.store(UInt32(truncatingIfNeeded: value))
        }
        defer { thread.end() }
        let send = [
          SendRequest(
            id: 9, opcode: .send, elements: ScatterGatherList(victim.memory.element(byteCount: 8)))
        ]
        try victim.wait("the victim sees a word that cannot be") {
          try? victim.queuePair?.postSend(send.span)
          _ = victim.poll()
          return victim.queuePair?.state == .error
        }
      }
    }
    victim.close()
  }
}
