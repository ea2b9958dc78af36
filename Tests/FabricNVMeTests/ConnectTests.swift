import FabricNVMe
import FabricStorage
import Testing

@Suite("NVMe: connecting")
struct ConnectTests {
  @Test(
    "the admin queue makes a controller, I/O queues join it, and all end with the admin queue (NV-4)"
  )
  func queuesOfController() throws {
    let bench = try Bench()
    let (admin, io) = (RecordingLink(), RecordingLink())
    let first = try bench.connect(link: admin)
    #expect(first.number == 0 && first.depth == 32 && first.tellsHead)
    // Not before it is enabled.
    #expect(throws: NVMSubsystem.Refusal.self) {
      try bench.connect(queue: 1, size: 127, controller: first.controller.number)
    }
    #expect(bench.perform(first.controller, bench.propertySet(0x14, 1)) == .done(.success))
    let queue = try bench.connect(
      queue: 1, size: 127, controller: first.controller.number, link: io)
    #expect(queue.controller === first.controller && queue.depth == 128)
    let other = try bench.connect()
    #expect(other.controller.number != first.controller.number)
    first.controller.disconnected(0, admin)
    #expect(io.hasEnded && first.controller.hasEnded && !other.controller.hasEnded)
  }

  /// What is wrong, and what is said of it.
  private func refusal(
    _ bench: Bench, _ connect: (Bench) throws -> Void
  ) -> (Status, UInt64)? {
    do {
      try connect(bench)
      return nil
    } catch let refusal as NVMSubsystem.Refusal {
      return (refusal.status, refusal.result)
    } catch { return nil }
  }

  @Test("what is wrong with a Connect is told by its place (NV-5)")
  func refusals() throws {
    let bench = try Bench()
    let controller = try bench.controller().number
    func expect(
      _ status: Status, _ result: UInt64, _ connect: (Bench) throws -> Void,
      at location: SourceLocation = #_sourceLocation
    ) {
      let found = refusal(bench, connect)
      #expect(found?.0 == status && found?.1 == result, sourceLocation: location)
    }
    expect(.connectIncompatibleFormat, 0) { _ = try $0.connect(format: 1) }
    expect(.connectInvalidParameters, 0x1_0100) {
      _ = try $0.connect(subsystem: "nqn.2024-01.org.x:y")
    }
    expect(.connectInvalidParameters, 0x1_0200) { _ = try $0.connect(host: "somebody") }
    expect(.connectInvalidParameters, 0x1_0000) { _ = try $0.connect(identifier: 0) }
    expect(.connectInvalidParameters, 0x1_0010) { _ = try $0.connect(controller: 1) }
    expect(.connectInvalidParameters, 44) { _ = try $0.connect(size: 30) }
    expect(.connectInvalidParameters, 44) { _ = try $0.connect(size: 1024) }
    expect(.connectInvalidParameters, 44) {
      _ = try $0.connect(queue: 1, size: 0, controller: controller)
    }
    expect(.connectInvalidParameters, 42) { _ = try $0.connect(queue: 65, controller: controller) }
    expect(.connectInvalidParameters, 0x1_0010) { _ = try $0.connect(queue: 1, controller: 99) }
    expect(.connectInvalidParameters, 0x1_0000) {
      _ = try $0.connect(queue: 1, controller: controller, identifier: 8)
    }
    expect(.connectInvalidParameters, 0x1_0200) {
      _ = try $0.connect(queue: 1, controller: controller, host: "nqn.2024-01.org.example:other")
    }
    _ = try bench.connect(queue: 1, controller: controller)
    expect(.commandSequenceError, 0) { _ = try $0.connect(queue: 1, controller: controller) }
  }

  @Test("there are only so many controllers, and one that ends makes room (NV-4)")
  func controllerLimit() throws {
    let bench = try Bench { $0.controllerCount = 2 }
    let first = try bench.controller()
    _ = try bench.controller()
    #expect(refusal(bench) { _ = try $0.connect() }?.0 == .connectControllerBusy)
    first.end()
    _ = try bench.controller()
  }

  @Test("a host sees what it may use: in lists, by number, and to write (NV-3)")
  func rights() throws {
    let (web, db) = ("nqn.2024-01.org.example:web", "nqn.2024-01.org.example:db")
    let bench = try Bench(volumes: ["disk", "logs"]) {
      $0.rights = VolumeRights([
        VolumeRights.Rule(host: web, volume: "logs", access: .readOnly)
      ])
    }
    let controller = try bench.controller(host: web)
    #expect(bench.perform(controller, bench.identify(2)).bytes.number(0, 8) == 2)
    #expect(bench.perform(controller, bench.identify(0, namespace: 1)).bytes.allSatisfy { $0 == 0 })
    #expect(bench.perform(controller, bench.identify(3, namespace: 1)).status == .invalidNamespace)
    // Write protected.
    #expect(bench.perform(controller, bench.identify(0, namespace: 2)).bytes[99] == 1)
    #expect(refusal(bench) { _ = try $0.connect(host: db) }?.0 == .connectInvalidHost)
    let discovery = try bench.controller(subsystem: QualifiedName.discovery, host: db)
    bench.subsystem.add(
      DiscoveryEntry(
        transport: .tcp, host: .init(isIPv4: true, text: "127.0.0.1"), port: 4420))
    #expect(bench.perform(discovery, bench.log(0x70, byteCount: 1024)).bytes.number(8, 8) == 0)
  }

  @Test("the discovery log has the ways in, and its host hears of more (NV-6, NV-17)")
  func discovery() throws {
    let bench = try Bench()
    bench.subsystem.add(
      DiscoveryEntry(
        transport: .tcp, host: .init(isIPv4: true, text: "192.0.2.1"), port: 4420))
    let link = RecordingLink()
    let controller = try bench.controller(subsystem: QualifiedName.discovery, link: link)
    let log = bench.perform(controller, bench.log(0x70, byteCount: 2048)).bytes
    #expect(log.number(8, 8) == 1)
    let entry = Array(log[1024...])
    #expect(entry[0] == 3 && entry[1] == 1 && entry[2] == 2 && entry.number(6, 2) == 0xFFFF)
    #expect(entry.text(32, 32).hasPrefix("4420 "))
    #expect(entry.text(256, 256) == bench.subsystem.options.name)
    #expect(entry.text(512, 256).hasPrefix("192.0.2.1 "))
    // Namespaces are not its business.
    #expect(bench.perform(controller, bench.identify(2)).status == .invalidField)
    #expect(bench.perform(controller, bench.log(2, byteCount: 512)).status == .invalidLogPage)
    #expect(
      bench.perform(controller, bench.admin(Opcode.Admin.setFeatures, 0x0B, 1 << 31))
        == .done(
          .success))
    #expect(
      bench.perform(
        controller, bench.admin(Opcode.Admin.asynchronousEventRequest, identifier: 5)) == .held)
    bench.subsystem.add(DiscoveryEntry(transport: .rdma, host: nil, port: 4421))
    #expect(link.answers.count == 1 && link.answers.first?.identifier == 5)
    #expect(link.answers.first?.result == 0x70_F002)
    #expect(bench.perform(controller, bench.log(0x70, byteCount: 1024)).bytes.number(8, 8) == 2)
  }

  @Test("hosts of one address have a part of the controllers (NV-7)")
  func parts() throws {
    let bench = try Bench()
    func connect(_ origin: [UInt8]) throws(NVMSubsystem.Refusal) {
      _ = try bench.connect(from: origin)
    }
    for _ in 0..<NVMSubsystem.Options().controllersPerOrigin { try connect([1]) }
    do throws(NVMSubsystem.Refusal) {
      try connect([1])
      Issue.record("one more than there may be")
    } catch { #expect(error.status == .connectControllerBusy) }
    try connect([2])
  }
}
