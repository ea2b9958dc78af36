import FabricPlatform
import FabricStorage
import Synchronization
import Testing

/// A thread's worth of traffic on a port until the port is closed.
private final class Worker: VolumePortHandler {
  let port: VolumePort
  let buffer = TestBuffer(byteCount: 4096)
  private(set) var acceptedCount = 0
  private(set) var reportedCount = 0
  private(set) var failures = 0
  /// Set once deregistration has returned: a call after it is wrong.
  let isOver: SharedFlag
  private(set) var callsAfterTheEnd = 0

  init(_ registration: Registration, _ volume: Volume, isOver: SharedFlag) throws {
    self.isOver = isOver
    relay = Relay()
    port = try registration.openPort(on: volume, access: .readWrite, depth: 16, handler: relay)
    relay.worker = self
  }

  private let relay: Relay

  /// Stands in while the worker is being made.
  private final class Relay: VolumePortHandler {
    weak var worker: Worker?
    func volumePort(_ port: VolumePort, completed batch: Span<BlockCompletion>) {
      worker?.volumePort(port, completed: batch)
    }
  }

  func volumePort(_ port: VolumePort, completed batch: Span<BlockCompletion>) {
    reportedCount += batch.count
    if isOver.isSet { callsAfterTheEnd += 1 }
    for index in batch.indices where batch[index].status != .success { failures += 1 }
  }

  /// Goes on until the port refuses and nothing is in flight.
  func run(started: SharedFlag) {
    let request = BlockRequest(
      .write, block: 1, blockCount: 1, address: buffer.address, byteCount: 4096)
    while port.isOpen || port.inFlightCount > 0 {
      while port.submit(request) { acceptedCount += 1 }
      port.flushSubmissions()
      port.poll()
      if reportedCount > 100 { started.set() }
    }
    port.poll()  // lets an idle port close
  }
}

/// A flag that one thread sets and others read.
final class SharedFlag: Sendable {
  private let value = Atomic<Bool>(false)
  var isSet: Bool { value.load(ordering: .acquiring) }
  func set() { value.store(true, ordering: .releasing) }
}

@Suite("Common layer closing")
struct ClosingTests {
  @Test("ST-41: deregistering under load drains, and nothing is called after it returns")
  func deregisteringDrains() async throws {
    for delay in [Duration.zero, .microseconds(500)] {
      let store = FaultStore(
        over: try MemoryStore(byteCount: 1 << 20), plan: FaultPlan(delays: [.init(delay)]))
      let setting = try makeLayer(store)
      let isOver = SharedFlag()
      let (registration, volume) = (setting.registration, setting.volume)
      let started = SharedFlag()
      async let counts = onThread {
        let worker = try! Worker(registration, volume, isOver: isOver)
        worker.run(started: started)
        // The port must stay silent whatever its thread still does.
        while !isOver.isSet { worker.port.poll() }
        worker.port.poll()
        return (
          worker.acceptedCount, worker.reportedCount, worker.callsAfterTheEnd, worker.failures
        )
      }
      await onThread {
        while !started.isSet { spinHint() }
        registration.deregister()
        isOver.set()
      }
      let (accepted, reported, late, failures) = await counts
      #expect(accepted == reported && accepted > 100)
      #expect(late == 0)
      #expect(failures == 0)
      try setting.layer.removeVolume(named: "v")
      _ = try setting.layer.register(TestSubsystem("a"))
    }
  }

  @Test("ST-42: one front end's faults and end leave the other's traffic alone")
  func frontEndsAreIndependent() throws {
    let store = try MemoryStore(byteCount: 1 << 20)
    let setting = try makeLayer(store)
    let other = try setting.layer.register(TestSubsystem("b"))
    let handlers = [TestHandler(), TestHandler()]
    let bad = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 2, handler: handlers[0])
    let good = try other.openPort(
      on: setting.volume, access: .readWrite, depth: 2, handler: handlers[1])
    let buffer = TestBuffer(byteCount: 4096)
    buffer.fill(8, byteCount: 4096)
    // The bad one fills its port with nonsense and never polls.
    let nonsense = BlockRequest(.read, block: .max, blockCount: 1)
    #expect(bad.submit(nonsense) && bad.submit(nonsense) && !bad.submit(nonsense))
    let write = BlockRequest.on(store, .write, 7, 1, at: buffer.address)
    #expect(handlers[1].run(good, write)?.status == .success)
    setting.registration.deregister()
    #expect(handlers[0].completions.map(\.status) == [.invalidField, .invalidField])
    let compare = BlockRequest.on(store, .compare, 7, 1, at: buffer.address)
    #expect(handlers[1].run(good, compare)?.status == .success)
    #expect(!bad.submit(nonsense))
    good.close()
  }

  @Test("ST-43: two front ends see each other's writes to one volume")
  func frontEndsShareOneTruth() throws {
    let place = TemporaryDirectory()
    let store = try FileStore.open(
      path: place.file(), options: .init(byteCountIfMissing: 1 << 20))
    let setting = try makeLayer(store)
    let other = try setting.layer.register(TestSubsystem("b"))
    let handler = TestHandler()
    let ports = try [setting.registration, other].map {
      try $0.openPort(on: setting.volume, access: .readWrite, depth: 4, handler: handler)
    }
    let buffer = TestBuffer(byteCount: 8192)
    for round in 0..<100 {
      buffer.fill(UInt8(round), byteCount: 4096)
      let (writer, reader) = (ports[round % 2], ports[1 - round % 2])
      let write = BlockRequest.on(store, .write, 5, 1, at: buffer.address)
      #expect(handler.run(writer, write)?.status == .success)
      let read = BlockRequest.on(store, .read, 5, 1, at: buffer.address + 4096)
      #expect(handler.run(reader, read)?.status == .success)
      #expect(buffer.bytes(4096) == buffer.bytes(4096, at: 4096))
    }
    for port in ports { port.close() }
  }

  @Test("ST-41: closing from inside a handler is misuse")
  func closingInsideAHandlerTraps() async {
    await #expect(processExitsWith: .failure) {
      final class Closer: VolumePortHandler {
        func volumePort(_ port: VolumePort, completed: Span<BlockCompletion>) { port.close() }
      }
      let setting = try makeLayer(try MemoryStore(byteCount: 1 << 20))
      let closer = Closer()
      let port = try setting.registration.openPort(
        on: setting.volume, access: .readOnly, depth: 2, handler: closer)
      _ = port.submit(BlockRequest(.flush))
      port.poll()
    }
  }
}
