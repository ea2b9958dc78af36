import FabricCompletion
import FabricMessaging
import FabricNIC
import FabricPlatform
import FabricSimulated
import TestSupport
import Testing

@testable import FabricNICUnit

@Suite("NIC: a unit's switch", .serialized, .untilStuck)
struct SwitchTests {
  private func record(
    to destination: MACAddress, from source: MACAddress, byteCount: Int = 60, fill: UInt8 = 0xA5
  ) -> [UInt8] {
    TestFrame.record(
      TestFrame.frame(to: destination, from: source, byteCount: byteCount, fill: fill))
  }

  @Test("NI-1, NI-4, NI-5: a host gets the address that it asks for, or one of its own")
  func opening() throws {
    let unit = try TestUnit { $0.mtu = 4000 }
    let wanted = MACAddress("02:00:5e:10:00:01")!
    let one = try TestHost(unit, address: wanted)
    #expect(
      one.opening
        == UnitNICOpening(
          unitName: "unit", address: wanted, link: LinkNotice(isUp: true, mtu: 4000)))
    let two = try TestHost(unit)
    #expect(two.address.isOfStation && two.address != wanted)
  }

  @Test("NI-2 to NI-6: who is refused, and with which words")
  func refusals() throws {
    let unit = try TestUnit()
    func words(_ host: TestHost) -> String { host.failure.map { "\($0)" } ?? "taken" }
    #expect(
      words(try TestHost(unit, nic: "lan1")).contains("no NIC \"lan1\" here; there are \"lan0\""))
    #expect(words(try TestHost(unit, name: "stranger")).contains("there is none for this host"))
    let broken = try HostNICOpening(
      nicName: "lan0", hostName: "a", session: .random(), address: nil
    ).encoded().dropLast()
    #expect(words(try TestHost(unit, greeting: Array(broken))).contains("bytes"))
    let small = try TestHost(unit, bufferByteCount: 4096)
    try small.run { small.closed != nil }
    #expect(
      unit.log.all.contains { $0.contains("expected buffers of 65576 bytes at least, got 4096") })
  }

  @Test("NI-30: an address is one host's; the same session takes its own place")
  func ownership() throws {
    let unit = try TestUnit()
    let wanted = MACAddress("02:00:5e:10:00:01")!
    let session = HostNICOpening.Session.random()
    let one = try TestHost(unit, address: wanted, session: session)
    let other = try TestHost(unit, address: wanted)
    #expect(other.failure.map { "\($0)" }?.contains("is that of another") == true)
    let again = try TestHost(unit, address: wanted, session: session, service: one.service)
    #expect(again.opening?.address == wanted)
    try one.run { one.closed != nil }
    again.channel?.close()
    try again.run { again.closed != nil }
    let late = try TestHost(unit, address: wanted)
    #expect(late.opening?.address == wanted)
  }

  @Test("NI-11, NI-32, NI-33: frames go where they are for, in messages and in buffers")
  func forwarding() throws {
    let unit = try TestUnit()
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    let three = try TestHost(unit, service: one.service)
    let short = TestFrame.frame(to: two.address, from: one.address)
    #expect(one.send(TestFrame.record(short)) == nil)
    try one.run { two.frames.count == 1 }
    #expect(two.frames == [short] && two.transferCount == 0)
    let long = TestFrame.frame(to: two.address, from: one.address, byteCount: 1514, fill: 7)
    #expect(try one.transfer(TestFrame.record(long) + TestFrame.record(short)) == nil)
    try one.run { two.frames.count == 3 }
    #expect(two.frames[1...] == [long, short] && two.transferCount == 1)
    let all = TestFrame.frame(to: .broadcast, from: two.address)
    #expect(two.send(TestFrame.record(all)) == nil)
    try one.run { one.frames.count == 1 && three.frames.count == 1 }
    #expect(one.frames == [all] && three.frames == [all] && two.frames.count == 3)
    let nobody = MACAddress("02:00:00:00:00:99")!
    #expect(one.send(record(to: nobody, from: one.address)) == nil)
    #expect(one.send(record(to: one.address, from: one.address)) == nil)
    let counted = try one.statistics()
    #expect(counted.unknownCount == 2 && counted.receivedFrameCount == 3)
    #expect(try two.statistics().sentFrameCount == 3)
  }

  @Test("NI-13, NI-31: bad frames are counted and dropped, and their host stays")
  func badFrames() throws {
    let unit = try TestUnit()
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    let stranger = MACAddress("02:00:00:00:00:77")!
    #expect(one.send(TestFrame.record([1, 2, 3])) == nil)
    #expect(try one.transfer(record(to: two.address, from: one.address, byteCount: 1515)) == nil)
    #expect(one.send(record(to: two.address, from: stranger)) == nil)
    #expect(one.send(record(to: two.address, from: two.address)) == nil)
    #expect(
      one.send(
        TestFrame.record(TestFrame.frame(to: two.address, from: one.address), kind: 1)) == nil)
    #expect(one.send(record(to: two.address, from: one.address, fill: 9)) == nil)
    try one.run { !two.frames.isEmpty }
    let counted = try one.statistics()
    #expect(counted.runtCount == 1 && counted.oversizeCount == 1 && counted.spoofedCount == 2)
    #expect(counted.badHeaderCount == 1 && counted.dropCount == 5)
    #expect(two.frames == [TestFrame.frame(to: two.address, from: one.address, fill: 9)])
    #expect(one.closed == nil)
  }

  @Test("NI-31: further addresses that a host may have, and no more than that")
  func furtherAddresses() throws {
    let unit = try TestUnit { $0.addressCount = 2 }
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    let further = MACAddress("02:00:00:00:00:77")!
    #expect(one.send(record(to: two.address, from: further)) == nil)
    #expect(one.send(record(to: two.address, from: MACAddress("02:00:00:00:00:78")!)) == nil)
    try one.run { two.frames.count == 1 }
    #expect(two.send(record(to: further, from: two.address)) == nil)
    #expect(two.send(record(to: two.address, from: further)) == nil)
    try one.run { one.frames.count == 1 }
    #expect(try one.statistics().spoofedCount == 1)
    #expect(try two.statistics().spoofedCount == 1)
  }

  @Test("NI-32: so many broadcasts, and what is more is dropped")
  func floods() throws {
    let unit = try TestUnit { $0.groupFrameRate = 20 }
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    for _ in 0..<60 { #expect(one.send(record(to: .broadcast, from: one.address)) == nil) }
    #expect(one.send(record(to: two.address, from: one.address)) == nil)
    try one.run { two.frames.last.map { MACAddress($0) } == two.address }
    #expect(try one.statistics().floodCount > 20)
    var budget = FrameBudget(rate: 10)
    let start = MonotonicTime.now
    #expect((0..<10).allSatisfy { _ in budget.take(1, at: start) } && !budget.take(1, at: start))
    #expect(
      budget.take(1, at: start + .milliseconds(100))
        && !budget.take(1, at: start + .milliseconds(101)))
    // Fractions of a frame are not lost, however often it is asked.
    var exact = FrameBudget(rate: 1000)
    _ = exact.take(1000, at: start)
    let passed = (1...5000).count { exact.take(1, at: start + .microseconds(700 * $0)) }
    #expect((3490...3501).contains(passed), "\(passed) of 3500")
    let later = start + .seconds(100)
    #expect((0..<10).allSatisfy { _ in budget.take(1, at: later) } && !budget.take(1, at: later))
  }

  @Test("NI-35, NI-36: hosts that take nothing, however many, leave room for the others")
  func hogs() throws {
    let unit = try TestUnit { $0.groupFrameRate = 1_000_000 }
    // Those that come first get their share of a broadcast first.
    let first = try TestHost(unit)
    let hogs = try (0..<12).map { _ in try TestHost(unit, service: first.service) }
    for hog in hogs { hog.takesNothing = true }
    let sender = try TestHost(unit, service: first.service)
    let receiver = try TestHost(unit, service: first.service)
    let large = TestFrame.record(
      TestFrame.frame(to: .broadcast, from: sender.address, byteCount: 60_000),
      flags: 1, kind: 1, header: 54, segment: 1448, start: 34, offset: 16)
    // Each fills half a slot; all there are have twelve times as many readers.
    for count in 1...64 {
      while try sender.transfer(large) != nil { first.service.turn() }
      try first.run { receiver.frames.count == count }
    }
    for count in 1...20 {
      #expect(sender.send(record(to: receiver.address, from: sender.address)) == nil)
      try first.run { receiver.frames.count == 64 + count }
    }
  }

  @Test("NI-23: another address is claimed, unless somebody has it")
  func claims() throws {
    let unit = try TestUnit()
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    let wanted = MACAddress("02:00:00:00:00:77")!
    one.control(.addressClaim, AddressClaim(wanted).encoded)
    try one.run { one.controls.count == 1 }
    #expect(one.controls[0].bytes == AddressAnswer(wanted, isGranted: true).encoded)
    two.control(.addressClaim, AddressClaim(wanted).encoded)
    try one.run { two.controls.count == 1 }
    #expect(two.controls[0].bytes == AddressAnswer(wanted, isGranted: false).encoded)
    #expect(one.send(record(to: two.address, from: one.address)) == nil)
    #expect(one.send(record(to: two.address, from: wanted)) == nil)
    try one.run { two.frames.count == 1 }
    #expect(try one.statistics().spoofedCount == 1)
  }

  @Test(
    "NI-15, NI-34: a receiver without room makes its sender wait, and nothing is lost",
    arguments: [2, 4])
  func backPressure(bufferCount: Int) throws {
    let unit = try TestUnit { $0.patience = .seconds(60) }
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service, bufferCount: bufferCount)
    for round in 0..<3 {
      two.takesNothing = true
      var sent = 0
      let before = two.frames.count
      // Each message has one frame that fills more than half of a slot: for the unit's slots and the buffers.
      while sent < 400 {
        let frame = TestFrame.frame(
          to: two.address, from: one.address, byteCount: 65_000,
          fill: UInt8(truncatingIfNeeded: sent))
        let record = TestFrame.record(
          frame, flags: 1, kind: 1, segment: 1448, start: 34, offset: 16)
        if try one.transfer(record) == nil {
          sent += 1
        } else {
          break
        }
      }
      #expect(sent < 400, "the sender was never made to wait")
      two.takesNothing = false
      try one.run { two.frames.count == before + sent }
      for index in 0..<sent {
        #expect(
          two.frames[before + index].last == UInt8(truncatingIfNeeded: index), "round \(round)")
      }
    }
    #expect(try one.statistics().dropCount == 0)
  }

  @Test("NI-35: a receiver that takes nothing holds up nobody for long")
  func stuck() throws {
    let unit = try TestUnit()
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    let three = try TestHost(unit, service: one.service)
    two.takesNothing = true
    let large = TestFrame.record(
      TestFrame.frame(to: two.address, from: one.address, byteCount: 65_000), flags: 1, kind: 1,
      segment: 1448, start: 34, offset: 16)
    while try one.transfer(large) == nil {}
    // Behind them in order, and for somebody else.
    let short = record(to: three.address, from: one.address)
    var isSent = false
    try one.run {
      isSent = isSent || one.send(short) == nil
      return isSent
    }
    try one.run { !three.frames.isEmpty }
    two.takesNothing = false
    let dropped = try two.statistics().stuckCount
    #expect(dropped > 0)
    // It takes again: nothing more is dropped.
    let after = record(to: two.address, from: three.address, fill: 3)
    #expect(three.send(after) == nil)
    try one.run { two.frames.last?.last == 3 }
    #expect(try two.statistics().stuckCount == dropped)
  }

  @Test(
    "NI-35: who gives a buffer back gets what comes after that, however the links are",
    arguments: UInt64(1)...12)
  func takesAgain(seed: UInt64) throws {
    let service = try CompletionService()
    let network = SimulatedNetwork(seed: seed)
    let unit = try TestUnit(service: service, network: network)
    let one = try TestHost(unit, service: service)
    let two = try TestHost(unit, service: service)
    let three = try TestHost(unit, service: service)
    two.takesNothing = true
    let large = TestFrame.record(
      TestFrame.frame(to: two.address, from: one.address, byteCount: 65_000), flags: 1, kind: 1,
      segment: 1448, start: 34, offset: 16)
    while try one.transfer(large) == nil {}
    // What is behind them comes once nobody waits for the receiver any more.
    #expect(one.send(record(to: three.address, from: one.address)) == nil)
    try one.run { !three.frames.isEmpty }
    two.takesNothing = false
    _ = try two.statistics()
    #expect(three.send(record(to: two.address, from: three.address, fill: 3)) == nil)
    try one.run { two.frames.last?.last == 3 }
  }

  @Test("NI-12, NI-36: who breaks the protocol loses its own connection", arguments: 0..<6)
  func violations(number: Int) throws {
    let unit = try TestUnit()
    let one = try TestHost(unit)
    let two = try TestHost(unit, service: one.service)
    let good = record(to: two.address, from: one.address)
    switch number {
    case 0: _ = one.send(Array(good.dropLast(20)))
    case 1: _ = try one.transfer([0xFF, 0xFF, 0xFF, 0xFF] + good)
    case 2: one.control(.link, LinkNotice(isUp: true, mtu: 1500).encoded)
    case 3: one.control(.addressClaim, [1, 2, 3])
    case 4: _ = one.channel!.send(kind: 99, tag: 0, bytes: [])
    default: one.control(.addressClaim, MACAddress.broadcast.bytes)
    }
    one.channel!.flush()
    try one.run { one.closed != nil }
    let three = try TestHost(unit, service: one.service)
    #expect(three.send(record(to: two.address, from: three.address)) == nil)
    try one.run { two.frames.count == 1 }
  }
}
