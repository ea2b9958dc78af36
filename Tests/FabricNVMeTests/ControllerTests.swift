import FabricNVMe
import FabricPlatform
import FabricStorage
import Testing

@Suite("NVMe: the controller")
struct ControllerTests {
  @Test("properties tell and set what they may (NV-10)")
  func properties() throws {
    let bench = try Bench()
    let controller = try bench.connect().controller
    let capabilities = bench.perform(controller, bench.propertyGet(0, isLong: true)).result
    #expect(capabilities == 1023 | 1 << 16 | 15 << 24 | 1 << 37)
    #expect(bench.perform(controller, bench.propertyGet(8, isLong: false)).result == 0x10400)
    #expect(bench.perform(controller, bench.propertyGet(0x1C, isLong: false)).result == 0)
    #expect(bench.perform(controller, bench.propertySet(0x14, 0x460001)).status == .success)
    #expect(bench.perform(controller, bench.propertyGet(0x14, isLong: false)).result == 0x460001)
    #expect(bench.perform(controller, bench.propertyGet(0x1C, isLong: false)).result == 1)
    #expect(bench.perform(controller, bench.propertySet(0x14, 0x464001)).status == .success)
    #expect(bench.perform(controller, bench.propertyGet(0x1C, isLong: false)).result == 0b1001)
    for (offset, isLong) in [(0, false), (8, true), (4, false), (0x28, true), (0x14, true)] {
      #expect(
        bench.perform(controller, bench.propertyGet(UInt32(offset), isLong: isLong)).status
          == .invalidField)
    }
    #expect(bench.perform(controller, bench.propertySet(0x1C, 1)).status == .invalidField)
  }

  @Test("a reset and a shutdown take the I/O queues away, and end requests for events (NV-10)")
  func resets() throws {
    let bench = try Bench()
    let (admin, first, second) = (RecordingLink(), RecordingLink(), RecordingLink())
    let controller = try bench.controller(link: admin)
    func set(_ value: UInt32) {
      #expect(bench.perform(controller, bench.propertySet(0x14, value)).status == .success)
    }
    _ = try bench.connect(queue: 1, controller: controller.number, link: first)
    #expect(
      bench.perform(controller, bench.admin(Opcode.Admin.asynchronousEventRequest)) == .held)
    set(0)
    #expect(first.hasEnded && admin.forgottenCount == 1)
    set(1)
    _ = try bench.connect(queue: 1, controller: controller.number, link: second)
    set(0x4001)
    #expect(second.hasEnded && admin.forgottenCount == 2 && !admin.hasEnded)
    #expect(throws: NVMSubsystem.Refusal.self) {
      try bench.connect(queue: 1, controller: controller.number)
    }
  }

  @Test("nothing is asked of a controller before it is enabled (NV-11)")
  func order() throws {
    let bench = try Bench()
    let controller = try bench.connect().controller
    #expect(bench.perform(controller, bench.identify(1)).status == .commandSequenceError)
    #expect(bench.perform(controller, bench.propertySet(0x14, 1)).status == .success)
    #expect(bench.perform(controller, bench.identify(1)).bytes.count == 4096)
    #expect(
      bench.perform(controller, Command(opcode: Opcode.fabrics, namespace: 1)).status
        == .commandSequenceError)
    #expect(
      bench.perform(controller, Command(opcode: Opcode.fabrics, namespace: 8)).status
        == .connectInvalidQueueType)
  }

  @Test("what is not supported is answered with what the specification says (NV-12)")
  func unsupported() throws {
    let bench = try Bench()
    let controller = try bench.controller()
    for opcode in [0x00, 0x01, 0x04, 0x05, 0x10, 0x11, 0x80, 0x84, 0xC0, 0xFF] as [UInt8] {
      #expect(bench.perform(controller, bench.admin(opcode)).status == .invalidOpcode)
    }
    for structure in [0x04, 0x07, 0x14, 0xFF] as [UInt32] {
      #expect(bench.perform(controller, bench.identify(structure)).status == .invalidField)
    }
    #expect(bench.perform(controller, bench.log(0x06, byteCount: 64)).status == .invalidLogPage)
    #expect(
      bench.perform(controller, bench.identify(0, namespace: 1025)).status == .invalidNamespace)
    #expect(bench.perform(controller, bench.identify(3, namespace: 2)).status == .invalidNamespace)
    #expect(bench.perform(controller, bench.identify(0, namespace: 0)).status == .invalidNamespace)
    var fused = bench.identify(1)
    fused.flags |= 1
    #expect(bench.perform(controller, fused).status == .invalidField)
    var pages = bench.identify(1)
    pages.flags = 0
    #expect(bench.perform(controller, pages).status == .invalidField)
    #expect(
      bench.perform(controller, Command(opcode: Opcode.fabrics, namespace: 5)).status
        == .invalidOpcode)
  }

  @Test("Identify tells controller and namespaces (NV-1, NV-2, NV-13)")
  func identify() throws {
    let bench = try Bench(volumes: ["disk", "logs"])
    let controller = try bench.controller()
    let own = bench.perform(controller, bench.identify(1)).bytes
    #expect(own.text(24, 40).hasPrefix("ChannelFabric "))
    #expect(own.number(78, 2) == UInt64(controller.number) && own[77] == 8)
    #expect(own.number(80, 4) == 0x10400 && own[111] == 1 && own[512] == 0x66 && own[513] == 0x44)
    #expect(own.number(516, 4) == 1024 && own.text(768, 256) == bench.subsystem.options.name)
    #expect(own.number(1792, 4) == (64 + 16384) / 16 && own.number(1796, 4) == 1)
    #expect(own.number(320, 2) > 0 && own.number(520, 2) & 1 << 5 == 0)
    let namespace = bench.perform(controller, bench.identify(0, namespace: 2)).bytes
    #expect(namespace.number(0, 8) == 256 && namespace[130] == 12 && namespace[30] == 1)
    #expect(namespace.number(104, 2) == 0x2301)
    let names = bench.perform(controller, bench.identify(3, namespace: 1)).bytes
    #expect(names[0] == 2 && names[1] == 16 && names[20] == 3 && names[21] == 16)
    #expect(Array(names[4..<20]) == Array(names[24..<40]) && names[40] == 4 && names[41] == 1)
    #expect(bench.perform(controller, bench.identify(2)).bytes.number(0, 12 - 4) == 1 | 2 << 32)
    #expect(bench.perform(controller, bench.identify(2, namespace: 1)).bytes.number(0, 8) == 2)
    #expect(bench.perform(controller, bench.identify(0x13)).bytes.number(0, 2) == 1)
    #expect(bench.perform(controller, bench.identify(5, namespace: 1)).bytes.count == 4096)
    #expect(bench.perform(controller, bench.identify(6)).bytes.count == 4096)
  }

  @Test("log pages give what is asked for and no more than there is (NV-14)")
  func logs() throws {
    let bench = try Bench()
    let link = RecordingLink()
    let controller = try bench.controller(link: link)
    #expect(
      bench.perform(controller, bench.log(1, byteCount: 64)).bytes
        == [UInt8](repeating: 0, count: 64))
    link.counters.readUnits = 1001
    let health = bench.perform(controller, bench.log(2, byteCount: 512)).bytes
    #expect(health.count == 512 && health[3] == 100 && health.number(32, 8) == 2)
    #expect(bench.perform(controller, bench.log(2, byteCount: 512, offset: 508)).bytes.count == 512)
    #expect(
      bench.perform(controller, bench.log(2, byteCount: 4, offset: 516)).status == .invalidField)
    #expect(
      bench.perform(controller, bench.log(2, byteCount: 4, offset: 2)).status == .invalidField)
    #expect(bench.perform(controller, bench.log(3, byteCount: 512)).bytes[0] == 1)
    let effects = bench.perform(controller, bench.log(5, byteCount: 4096)).bytes
    #expect(effects[4 * 6] == 1 && effects[1024 + 4] == 3 && effects[1024 + 8] == 1)
    #expect(effects[1024 + 4 * 0x0D] == 0)
    let access = bench.perform(controller, bench.log(0x0C, byteCount: 52)).bytes
    #expect(access.number(8, 2) == 1 && access.number(20, 4) == 1 && access[32] == 1)
    #expect(access.number(48, 4) == 1)
  }

  @Test("features can be set, asked for and not saved (NV-15)")
  func features() throws {
    let bench = try Bench()
    let controller = try bench.controller()
    func set(_ feature: UInt32, _ value: UInt32) -> AdminOutcome {
      bench.perform(controller, bench.admin(Opcode.Admin.setFeatures, feature, value))
    }
    func get(_ feature: UInt32, select: UInt32 = 0, _ value: UInt32 = 0) -> AdminOutcome {
      bench.perform(
        controller, bench.admin(Opcode.Admin.getFeatures, feature | select << 8, value))
    }
    #expect(set(7, 7 | 3 << 16).result == 7 | 3 << 16)
    #expect(set(7, 200 | 200 << 16).result == 63 | 63 << 16)
    #expect(get(7).result == 63 | 63 << 16)
    #expect(set(7, 0xFFFF).status == .invalidField)
    _ = try bench.connect(queue: 1, controller: controller.number)
    #expect(set(7, 1).status == .commandSequenceError)
    #expect(set(2, 0).status == .success && set(2, 1).status == .invalidField)
    #expect(
      set(4, 300).status == .success && get(4).result == 300 && get(4, select: 1).result == 343)
    #expect(set(6, 0).status == .featureNotChangeable && set(6, 1).status == .success)
    #expect(get(6).result == 1 && get(6, select: 3).result == 0)
    #expect(set(0x0F, 15001).status == .success && get(0x0F).result == 15100)
    #expect(get(0x81, 1).bytes == [UInt8](repeating: 7, count: 16))
    #expect(get(0x81).status == .invalidField && set(0x81, 1).status == .commandSequenceError)
    #expect(set(0x04 | 1 << 31, 300).status == .featureNotSaveable)
    #expect(set(0x7F, 0).status == .invalidField && get(0x7F).status == .invalidField)
    // As many queues as were granted.
    #expect(bench.perform(controller, bench.propertySet(0x14, 0)).status == .success)
    #expect(bench.perform(controller, bench.propertySet(0x14, 1)).status == .success)
    #expect(set(7, 1 | 1 << 16).result == 1 | 1 << 16)
    _ = try bench.connect(queue: 2, controller: controller.number)
    #expect(throws: NVMSubsystem.Refusal.self) {
      try bench.connect(queue: 3, controller: controller.number)
    }
    // A reset forgets them.
    #expect(bench.perform(controller, bench.propertySet(0x14, 0)).status == .success)
    #expect(bench.perform(controller, bench.propertySet(0x14, 1)).status == .success)
    #expect(get(4).result == 343)
  }

  @Test("a host that is silent for too long loses its controller (NV-16)")
  func keepAlive() throws {
    let bench = try Bench()
    let link = RecordingLink()
    let controller = try bench.controller(keepAlive: 1000, link: link)
    bench.now = bench.now + .milliseconds(900)
    #expect(bench.perform(controller, bench.admin(Opcode.Admin.keepAlive)) == .done(.success))
    bench.now = bench.now + .milliseconds(900)
    #expect(bench.subsystem.expire(at: bench.now) == 0 && !link.hasEnded)
    #expect(bench.subsystem.nextDeadline == bench.now + .milliseconds(200))
    bench.now = bench.now + .milliseconds(199)
    #expect(bench.subsystem.expire(at: bench.now) == 0 && !link.hasEnded)
    bench.now = bench.now + .milliseconds(1)
    #expect(bench.subsystem.expire(at: bench.now) == 1 && link.hasEnded && controller.hasEnded)
    let patient = try bench.controller()
    bench.now = bench.now + .seconds(100_000)
    #expect(bench.subsystem.expire(at: bench.now) == 0 && !patient.hasEnded)
  }

  @Test("volumes that come and go are told once until the log is read (NV-1, NV-17)")
  func events() throws {
    let bench = try Bench()
    let link = RecordingLink()
    let controller = try bench.controller(link: link)
    let request = Opcode.Admin.asynchronousEventRequest
    // Nobody has asked for such events yet.
    bench.subsystem.add(try Bench.volume("early"))
    #expect(bench.perform(controller, bench.admin(request, identifier: 1)) == .held)
    #expect(link.answers.isEmpty)
    #expect(
      bench.perform(controller, bench.admin(Opcode.Admin.setFeatures, 0x0B, 1 << 8)).status
        == .success)
    #expect(link.answers.map(\.identifier) == [1] && link.answers[0].result == 0x04_0002)
    #expect(bench.perform(controller, bench.admin(request, identifier: 2)) == .held)
    let volume = try Bench.volume("more")
    bench.subsystem.add(volume)
    #expect(link.answers.count == 1, "not before the log was read")
    let log = bench.perform(controller, bench.log(4, byteCount: 4096)).bytes
    #expect(log.number(0, 4) == 2 && log.number(4, 4) == 3 && log.number(8, 4) == 0)
    #expect(link.answers.map(\.identifier) == [1, 2])
    _ = bench.perform(controller, bench.log(4, byteCount: 4096))
    bench.subsystem.changed(volume)
    #expect(bench.perform(controller, bench.admin(request, identifier: 8)).result == 0x04_0002)
    #expect(bench.perform(controller, bench.log(4, byteCount: 8)).bytes.number(0, 8) == 3)
    // It goes, and comes again under its number, while nobody waits.
    bench.subsystem.remove(volume)
    #expect(bench.perform(controller, bench.identify(0, namespace: 3)).bytes.allSatisfy { $0 == 0 })
    bench.subsystem.add(try Bench.volume("more"))
    #expect(bench.perform(controller, bench.admin(request, identifier: 3)).result == 0x04_0002)
    #expect(bench.perform(controller, bench.log(4, byteCount: 8)).bytes.number(0, 8) == 3)
    for identifier in 4...7 as ClosedRange<UInt16> {
      #expect(bench.perform(controller, bench.admin(request, identifier: identifier)) == .held)
    }
    #expect(
      bench.perform(controller, bench.admin(request)).status == .asynchronousEventRequestLimit)
  }

  @Test("Abort gives up a request for an event and nothing else (NV-18)")
  func abort() throws {
    let bench = try Bench()
    let link = RecordingLink()
    let controller = try bench.controller(link: link)
    #expect(
      bench.perform(
        controller, bench.admin(Opcode.Admin.asynchronousEventRequest, identifier: 9)) == .held)
    #expect(bench.perform(controller, bench.admin(Opcode.Admin.abort, 8 << 16)).result == 1)
    #expect(bench.perform(controller, bench.admin(Opcode.Admin.abort, 9 << 16 | 1)).result == 1)
    #expect(bench.perform(controller, bench.admin(Opcode.Admin.abort, 9 << 16)).result == 0)
    #expect(link.answers.map(\.status) == [.abortRequested])
  }
}
