import FabricHostDriver
import FabricIOProtocol
import FabricIOUnit
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import Testing

@Suite("I/O unit: connections of one session beside each other", .timeLimit(.minutes(5)))
struct FenceTests {
  private let session = HostOpening.SessionIdentifier.random()

  private func tag(_ index: UInt16) -> RequestTag { RequestTag(index: index, generation: 1) }

  /// A unit whose volume `slow` takes its time with each write.
  private func slowUnit(_ scratch: Scratch, _ delay: Duration) throws -> TestUnit {
    try TestUnit(scratch) { _ in
      let base = try MemoryStore(byteCount: 1 << 20)
      return [
        Volume(
          name: "slow",
          store: FaultStore(over: base, plan: FaultPlan(delays: [.init(delay, of: .write)])))
      ]
    }
  }

  private func host(
    _ unit: TestUnit, number: UInt8, epoch: UInt32 = 1, beside other: RawHost? = nil,
    volume: String = "slow"
  ) throws -> RawHost {
    try RawHost(
      unit, volume: volume, session: session, epoch: epoch, number: number,
      service: other?.service)
  }

  private func write(_ host: RawHost, _ index: UInt16, block: UInt64 = 3) throws {
    let region = try host.endpoint.protectionDomain.allocate(
      byteCount: 4096, access: [.localWrite])
    host.send(
      CommandCapsule(.write, tag: tag(index), block: block, blockCount: 1, byteCount: 4096),
      data: region.element)
  }

  @Test("IO-14: connections of one epoch with different numbers stand beside each other")
  func beside() throws {
    let scratch = try Scratch()
    let unit = try slowUnit(scratch, .milliseconds(1))
    let first = try host(unit, number: 0)
    let second = try host(unit, number: 1, beside: first)
    #expect(first.run { first.isReady && second.isReady })
    for host in [first, second] {
      host.send(CommandCapsule(.flush, tag: tag(1)))
      #expect(host.run { host.responses.count == 1 })
    }
    #expect(first.closeReason == nil && second.closeReason == nil)
  }

  @Test("IO-50, IO-51, IO-52: a fence waits for what was begun, and tells how it ended")
  func outcomes() throws {
    let scratch = try Scratch()
    let unit = try slowUnit(scratch, .milliseconds(500))
    let first = try host(unit, number: 0)
    let second = try host(unit, number: 1, beside: first)
    #expect(first.run { first.isReady && second.isReady })
    let start = MonotonicTime.now
    try write(first, 1)
    first.send(CommandCapsule(.write, tag: tag(2), block: 1 << 30, blockCount: 1, byteCount: 4096))
    first.send(CommandCapsule(.flush, tag: tag(3)))
    #expect(first.run { first.responses.count == 2 })
    second.fence(
      ConnectionName(epoch: 1, number: 0), tags: [tag(1), tag(2), tag(3), tag(9)])
    #expect(first.run { first.closeReason != nil })
    // The one that asks goes on meanwhile.
    second.send(CommandCapsule(.flush, tag: tag(1)))
    #expect(second.run { second.responses.count == 1 })
    #expect(second.fenceAnswers.isEmpty)
    #expect(second.run { second.fenceAnswers.count == 1 })
    #expect(MonotonicTime.now.nanoseconds(since: start) >= 500_000_000)
    let answer = try #require(second.fenceAnswers.first)
    #expect(answer.isRemembered)
    #expect(answer.outcomes.map(\.tag) == [tag(1), tag(2), tag(3), tag(9)])
    #expect(answer.outcomes.map(\.status) == [.success, .invalidField, .success, nil])
    #expect(answer.outcomes[0].transferredByteCount == 4096)
    #expect(first.responses.count == 2, "a fenced write is not acknowledged")
    // Asked again, the same is answered; and of one that never was, nothing.
    second.fence(ConnectionName(epoch: 1, number: 0), tags: [tag(1)])
    #expect(second.run { second.fenceAnswers.count == 2 })
    #expect(second.fenceAnswers[1].outcomes[0].status == .success)
    second.fence(ConnectionName(epoch: 1, number: 77), tags: [tag(1)])
    #expect(second.run { second.fenceAnswers.count == 3 })
    #expect(!second.fenceAnswers[2].isRemembered)
    #expect(second.fenceAnswers[2].outcomes.map(\.status) == [nil])
  }

  @Test("IO-52: of a connection that has gone by itself the outcomes are known, too")
  func goneByItself() throws {
    let scratch = try Scratch()
    let unit = try slowUnit(scratch, .milliseconds(200))
    let first = try host(unit, number: 0)
    let second = try host(unit, number: 1, beside: first)
    #expect(first.run { first.isReady && second.isReady })
    try write(first, 1)
    first.send(CommandCapsule(.flush, tag: tag(2)))
    #expect(first.run { first.responses.count == 1 })
    first.channel?.close()
    #expect(first.run { unit.server.connectionCount == 1 })
    second.fence(ConnectionName(epoch: 1, number: 0), tags: [tag(1)])
    #expect(second.run { second.fenceAnswers.count == 1 })
    #expect(second.fenceAnswers[0].outcomes[0].status == .success)
  }

  @Test("IO-50: a fence of itself, a second one before the answer, a malformed one end the channel")
  func violations() throws {
    let scratch = try Scratch()
    let unit = try slowUnit(scratch, .milliseconds(300))
    let bystander = try host(unit, number: 9)
    #expect(bystander.run { bystander.isReady })

    let own = try host(unit, number: 1, beside: bystander)
    #expect(own.run { own.isReady })
    own.fence(ConnectionName(epoch: 1, number: 1))
    #expect(own.run { own.closeReason != nil })

    let victim = try host(unit, number: 2, beside: bystander)
    let hasty = try host(unit, number: 3, beside: bystander)
    #expect(victim.run { victim.isReady && hasty.isReady })
    try write(victim, 1)
    victim.send(CommandCapsule(.flush, tag: tag(2)))
    #expect(victim.run { victim.responses.count == 1 })
    hasty.fence(ConnectionName(epoch: 1, number: 2))
    hasty.fence(ConnectionName(epoch: 1, number: 9))
    #expect(hasty.run { hasty.closeReason != nil })

    let good = FenceRequest(ConnectionName(epoch: 1, number: 9), tags: [tag(1)]).encoded()
    for index in 0..<3 {
      let odd = try host(unit, number: 10 + UInt8(index), beside: bystander)
      #expect(odd.run { odd.isReady })
      var bytes = good
      switch index {
      case 0: bytes.removeLast()
      case 1: bytes[5] = 17
      default: bytes[6] = 1
      }
      odd.send(kind: MessageKind.fence.rawValue, tag: 0, bytes)
      #expect(odd.run { odd.closeReason != nil })
    }
    #expect(bystander.closeReason == nil, "nobody else notices")
  }

  @Test("IO-50: nobody fences connections of another session")
  func otherSessions() throws {
    let scratch = try Scratch()
    let unit = try slowUnit(scratch, .milliseconds(1))
    let first = try host(unit, number: 0)
    let stranger = try RawHost(unit, volume: "slow", number: 5, service: first.service)
    #expect(first.run { first.isReady && stranger.isReady })
    stranger.fence(ConnectionName(epoch: 1, number: 0), tags: [tag(1)])
    #expect(stranger.run { stranger.fenceAnswers.count == 1 })
    #expect(!stranger.fenceAnswers[0].isRemembered)
    first.send(CommandCapsule(.flush, tag: tag(1)))
    #expect(first.run { first.responses.count == 1 })
  }

  @Test(
    "IO-14: who takes a dead one's session sends nothing before the dead one's writes have ended")
  func takenSession() throws {
    let scratch = try Scratch()
    let unit = try slowUnit(scratch, .milliseconds(400))
    let dead = try host(unit, number: 0)
    #expect(dead.run { dead.isReady })
    try write(dead, 1)
    dead.send(CommandCapsule(.flush, tag: tag(2)))
    #expect(dead.run { dead.responses.count == 1 })
    let start = MonotonicTime.now
    var options = RemoteVolumeQueue.Options()
    options.hostName = "raw"
    options.session = session
    options.firstEpoch = 2
    let next = try TestHost(unit.address("slow"), options: options, service: dead.service)
    #expect(next.run { next.isAttached })
    #expect(MonotonicTime.now.nanoseconds(since: start) >= 300_000_000)
    #expect(dead.closeReason != nil)
  }
}
