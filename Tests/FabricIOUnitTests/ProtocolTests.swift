import FabricIOProtocol
import FabricMessaging
import FabricIOUnit
import FabricPlatform
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("I/O unit: the protocol, kept and broken", .untilStuck)
struct ProtocolTests {
  func tag(_ index: UInt16) -> RequestTag { RequestTag(index: index, generation: 1) }

  @Test("IO-14: a newer epoch fences: ready comes only when the old connection's writes ended")
  func fencing() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      let base = try MemoryStore(byteCount: 1 << 20)
      return [
        Volume(
          name: "slow",
          store: FaultStore(
            over: base, plan: FaultPlan(delays: [.init(.milliseconds(600), of: .write)])))
      ]
    }
    let session = HostOpening.SessionIdentifier.random()
    let old = try RawHost(unit, volume: "slow", session: session)
    #expect(old.run { old.isReady })
    let stranger = try RawHost(unit, volume: "slow", service: old.service)
    #expect(old.run { stranger.isReady })
    let region = try old.endpoint.protectionDomain.allocate(
      byteCount: 4096, access: [.localWrite])
    let start = MonotonicTime.now
    old.send(
      CommandCapsule(.write, tag: tag(1), block: 3, blockCount: 1, byteCount: 4096),
      data: region.element)
    // The write has been handed to the store once a later flush has been answered.
    old.send(CommandCapsule(.flush, tag: tag(2)))
    #expect(old.run { !old.responses.isEmpty })
    let new = try RawHost(
      unit, volume: "slow", session: session, epoch: 2, service: old.service)
    #expect(new.channel != nil)
    #expect(!new.isReady)
    #expect(new.run { new.isReady })
    #expect(MonotonicTime.now.nanoseconds(since: start) >= 600_000_000)
    #expect(old.run { old.closeReason != nil })
    #expect(old.responses.count == 1, "a fenced write is not acknowledged")
    new.send(CommandCapsule(.flush, tag: tag(1)))
    stranger.send(CommandCapsule(.flush, tag: tag(1)))
    #expect(new.run { !new.responses.isEmpty && !stranger.responses.isEmpty })
    let late = try RawHost(
      unit, volume: "slow", session: session, epoch: 1, service: old.service)
    #expect("\(late.refusal!)".contains("expected an epoch of at least 2"))
    let same = try RawHost(
      unit, volume: "slow", session: session, epoch: 2, service: old.service)
    #expect("\(same.refusal!)".contains("expected a number that no connection of epoch 2 has"))
  }

  @Test("IO-2, IO-3, IO-16: an opening that is none, or of another version, is refused in words")
  func openings() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch)
    let good = try HostOpening(
      volumeName: "m", hostName: "raw", session: .random()
    ).encoded()
    var newer = good
    newer[4] = 9
    #expect("\(try RawHost(unit, greeting: newer).refusal!)".contains("the peer speaks 9"))
    #expect("\(try RawHost(unit, greeting: []).refusal!)".contains("bytes of the opening"))
    #expect("\(try RawHost(unit, greeting: [1, 2, 3, 4, 5, 6, 7]).refusal!)".contains("begins"))
    for count in 0..<good.count {
      #expect(try RawHost(unit, greeting: Array(good.prefix(count))).refusal != nil)
    }
    #expect(try RawHost(unit, greeting: good).channel != nil)
  }

  @Test("IO-31, IO-33: capsules that say nothing sensible are answered, and the channel goes on")
  func malformed() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch)
    let host = try RawHost(unit, volume: "m")
    #expect(host.run { host.isReady })
    let region = try host.endpoint.protectionDomain.allocate(
      byteCount: 8192, access: [.localWrite, .remoteWrite])
    let read = CommandCapsule(
      .read, tag: tag(1), block: 0, blockCount: 1, byteCount: 4096,
      remoteAddress: region.address, remoteKey: region.remoteKey!)
    let write = CommandCapsule(.write, tag: tag(1), block: 0, blockCount: 1, byteCount: 4096)
    let page = region.element(byteCount: 4096)
    func status(_ send: () -> Void) -> BlockStatus? {
      host.responses.removeAll()
      send()
      host.run { !host.responses.isEmpty || host.closeReason != nil }
      return host.responses.first?.status.status
    }
    #expect(status { host.send(read) { $0[0] = 0x7F } } == .unsupported)
    #expect(status { host.send(read) { $0[1] = 2 } } == .invalidField)
    #expect(status { host.send(read) { $0[60] = 1 } } == .invalidField)
    #expect(status { host.send(read) { $0.removeLast() } } == .invalidField)
    #expect(status { host.send(read, data: page) } == .invalidField, "a read with data")
    #expect(status { host.send(write) } == .invalidField, "a write without")
    #expect(
      status { host.send(write, data: region.element) } == .invalidField, "data of other length")
    #expect(status { host.send(read) { $0[20] = 1 } } == .invalidField, "not the blocks' length")
    #expect(status { host.send(read) { $0[15] = 0xFF } } == .lbaOutOfRange)
    // Every buffer came back: as many writes as there are, and again.
    for _ in 0..<64 { #expect(status { host.send(write, data: page) } == .success) }
    host.send(read)
    #expect(host.run { host.pushedTags == [tag(1).rawValue] })
  }

  @Test("IO-20, IO-21, IO-22: who breaks the rules is cut off, and nobody else")
  func violations() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      let base = try MemoryStore(byteCount: 1 << 20)
      return [
        Volume(
          name: "slow",
          store: FaultStore(over: base, plan: FaultPlan(delays: [.init(.milliseconds(300))])))
      ]
    }
    let witness = try RawHost(unit, volume: "m")
    #expect(witness.run { witness.isReady })
    let flush = [UInt8](repeating: 0, count: 64)
    func isCutOff(_ volume: String = "m", _ misbehave: (RawHost) -> Void) throws -> Bool {
      let host = try RawHost(unit, volume: volume, depth: 4)
      guard host.run(until: { host.isReady }) else { return false }
      misbehave(host)
      return host.run { host.closeReason != nil }
    }
    #expect(try isCutOff { $0.send(kind: 2, tag: 0, flush) })
    #expect(try isCutOff { $0.send(kind: 3, tag: 0, []) })
    #expect(try isCutOff { $0.send(kind: 999, tag: 0, flush) })
    #expect(try isCutOff { $0.send(kind: 1, tag: 5, flush) }, "two tags")
    #expect(
      try isCutOff { host in
        host.send(CommandCapsule(.flush, tag: RequestTag(rawValue: 0x8000_0001)))
      }, "a tag of 32 bits")
    #expect(
      try isCutOff("slow") { host in
        for index in 0..<6 { host.send(CommandCapsule(.flush, tag: tag(UInt16(index)))) }
      }, "more commands than agreed on")
    // A key that is not the host's: the fabric refuses the write and the connection ends.
    #expect(
      try isCutOff { host in
        host.send(
          CommandCapsule(
            .read, tag: tag(1), block: 0, blockCount: 1, byteCount: 4096, remoteAddress: 4096,
            remoteKey: RemoteKey(rawValue: 12345)))
      })
    witness.send(CommandCapsule(.flush, tag: tag(1)))
    #expect(witness.run { !witness.responses.isEmpty })
  }
}
