import FabricPlatform
import FabricStorage
import Synchronization
import Testing

/// A front end that counts what it is told.
final class TestSubsystem: Subsystem {
  let name: String
  let added = Mutex<[String]>([])
  let removed = Mutex<[String]>([])
  let grown = Mutex<[String]>([])

  init(_ name: String) { self.name = name }

  func volumeAdded(_ volume: Volume) { added.withLock { $0.append(volume.name) } }
  func volumeGrown(_ volume: Volume) { grown.withLock { $0.append(volume.name) } }
  func volumeRemoved(_ volume: Volume) { removed.withLock { $0.append(volume.name) } }
}

/// Keeps what a port reports.
final class TestHandler: VolumePortHandler {
  var completions: [BlockCompletion] = []
  var quiesced: [UInt32] = []
  var callCount = 0

  func volumePort(_ port: VolumePort, completed batch: Span<BlockCompletion>) {
    callCount += 1
    for index in batch.indices { completions.append(batch[index]) }
  }

  func volumePort(_ port: VolumePort, quiesced client: UInt32) { quiesced.append(client) }

  /// Submits one request and polls until it has ended.
  func run(_ port: VolumePort, _ request: BlockRequest) -> BlockCompletion? {
    completions.removeAll()
    guard port.submit(request) else { return nil }
    while completions.isEmpty {
      port.waitForCompletion()
      port.poll()
    }
    return completions.first
  }
}

/// A layer with one volume over `store` and one subsystem.
func makeLayer(
  _ store: any Store, access: VolumeAccess? = nil, subsystem: TestSubsystem = TestSubsystem("a")
) throws -> (layer: CommonLayer, volume: Volume, registration: Registration) {
  let layer = CommonLayer()
  let volume = Volume(name: "v", store: store, access: access)
  try layer.add(volume)
  return (layer, volume, try layer.register(subsystem))
}

@Suite("Common layer")
struct CommonLayerTests {
  @Test("ST-40: registrations and volumes have unique names and are told of changes")
  func namesAreUnique() throws {
    let layer = CommonLayer()
    let first = TestSubsystem("one")
    let registration = try layer.register(first)
    #expect(throws: CommonLayerError.duplicateSubsystem(name: "one")) {
      _ = try layer.register(TestSubsystem("one"))
    }
    let store = try MemoryStore(byteCount: 1 << 20)
    try layer.add(Volume(name: "v", store: store))
    #expect(throws: CommonLayerError.duplicateVolume(name: "v")) {
      try layer.add(Volume(name: "v", store: store))
    }
    #expect(throws: CommonLayerError.noSuchVolume(name: "w", available: ["v"])) {
      _ = try layer.volume(named: "w")
    }
    let handler = TestHandler()
    let volume = try layer.volume(named: "v")
    let port = try registration.openPort(
      on: volume, access: .readWrite, depth: 4, handler: handler)
    #expect(throws: CommonLayerError.volumeInUse(name: "v", portCount: 1)) {
      try layer.removeVolume(named: "v")
    }
    port.close()
    try layer.removeVolume(named: "v")
    #expect(layer.volumes.isEmpty)
    #expect(first.added.withLock { $0 } == ["v"])
    #expect(first.removed.withLock { $0 } == ["v"])
    registration.deregister()
    _ = try layer.register(TestSubsystem("one"))
    #expect(throws: CommonLayerError.noSuchVolume(name: "v", available: [])) {
      _ = try registration.openPort(on: volume, access: .readOnly, depth: 4, handler: handler)
    }
  }

  @Test("ST-30: each request is checked once, in order, before the store sees it")
  func requestsAreValidated() throws {
    // A store that fails whatever reaches it: a wrong request must not.
    let store = FaultStore(
      over: try MemoryStore(byteCount: 64 * 4096),
      plan: FaultPlan(failures: [.init(.internalError)]))
    let setting = try makeLayer(store)
    let handler = TestHandler()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 4, handler: handler)
    let buffer = TestBuffer(byteCount: 8192)
    let good = BlockRequest.on(store, .write, 63, 1, at: buffer.address, tag: 5)
    func status(_ change: (inout BlockRequest) -> Void) -> BlockStatus? {
      var request = good
      change(&request)
      let end = handler.run(port, request)
      #expect(end?.tag == 5)
      return end?.status
    }
    #expect(status { _ in } == .internalError)
    #expect(status { $0.byteCount = 4095 } == .invalidField)
    #expect(status { $0.byteCount = 0 } == .invalidField)
    #expect(status { $0.blockCount = 0 } == .invalidField)
    #expect(status { $0.address = 0 } == .invalidField)
    #expect(status { $0.address = .max - 10 } == .invalidField)
    #expect(status { $0.flags = BlockFlags(rawValue: 2) } == .invalidField)
    #expect(status { $0.client = 9 } == .invalidField)
    #expect(status { $0.block = 64 } == .lbaOutOfRange)
    #expect(status { $0.block = .max } == .lbaOutOfRange)
    #expect(
      status {
        $0.blockCount = 2
        $0.byteCount = 8192
      } == .lbaOutOfRange)
    #expect(status { $0.operation = .writeZeroes } == .invalidField)
    #expect(
      status {
        $0.operation = .deallocate
        $0.byteCount = 0
        $0.flags = .forceUnitAccess
      } == .invalidField)
    #expect(
      status {
        $0.operation = .writeZeroes
        $0.byteCount = 0
        $0.blockCount = .max
      } == .lbaOutOfRange)
    #expect(status { $0.operation = .flush } == .invalidField)
    port.close()
  }

  @Test("ST-31: what may only be read is not written")
  func rightsAreKept() throws {
    let store = try MemoryStore(byteCount: 1 << 20)
    let setting = try makeLayer(store)
    let handler = TestHandler()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readOnly, depth: 4, handler: handler)
    let buffer = TestBuffer(byteCount: 4096)
    buffer.fill(1, byteCount: 4096)
    for operation in BlockOperation.allCases where operation.isModifying {
      let request = BlockRequest.on(store, operation, 0, 1, at: buffer.address)
      #expect(handler.run(port, request)?.status == .readOnly)
    }
    #expect(handler.run(port, BlockRequest(.flush))?.status == .success)
    let read = BlockRequest.on(store, .read, 0, 1, at: buffer.address)
    #expect(handler.run(port, read)?.status == .success)
    #expect(buffer.bytes(4096).allSatisfy { $0 == 0 })
    port.close()

    let locked = try makeLayer(store, access: .readOnly)
    #expect(throws: CommonLayerError.readOnlyVolume(name: "v")) {
      _ = try locked.registration.openPort(
        on: locked.volume, access: .readWrite, depth: 4, handler: handler)
    }
  }

  @Test("ST-33: a failed flush is told to every client with unflushed writes, once")
  func failedFlushesAreToldToEveryWriter() throws {
    let plan = try FaultPlan(parsing: "error=flush:flushFailed:nth=1")
    let store = FaultStore(over: try MemoryStore(byteCount: 1 << 20), plan: plan)
    let setting = try makeLayer(store)
    let handler = TestHandler()
    let ports = try (0..<2).map { _ in
      try setting.registration.openPort(
        on: setting.volume, access: .readWrite, depth: 4, handler: handler)
    }
    let buffer = TestBuffer(byteCount: 4096)
    func end(_ port: Int, _ operation: BlockOperation, client: UInt32) -> BlockStatus? {
      var request = BlockRequest.on(store, operation, 0, 1, at: buffer.address)
      if operation == .flush { request = BlockRequest(.flush) }
      request.client = client
      return handler.run(ports[port], request)?.status
    }
    let session = VolumeClient(of: setting.volume)
    let other = ports[1].attach(VolumeClient(of: setting.volume))
    let idle = ports[1].attach(VolumeClient(of: setting.volume))
    let moving = ports[0].attach(session)
    #expect(end(0, .write, client: 0) == .success)
    #expect(end(1, .write, client: other) == .success)
    #expect(end(0, .write, client: moving) == .success)

    #expect(end(0, .flush, client: 0) == .flushFailed)
    #expect(end(0, .flush, client: 0) == .success)
    #expect(end(1, .flush, client: other) == .flushFailed)
    #expect(end(1, .flush, client: other) == .success)
    #expect(end(1, .flush, client: idle) == .success)
    // The session left its port before it could learn of it and comes back on another.
    ports[0].detach(moving)
    let back = ports[1].attach(session)
    #expect(session.hasUnflushedWrites)
    #expect(end(1, .flush, client: back) == .flushFailed)
    #expect(end(1, .flush, client: back) == .success)
    #expect(!session.hasUnflushedWrites)
    for port in ports { port.close() }
  }

  @Test("ST-34: a failed forced write counts as a failed flush for the others")
  func failedForcedWritesAreToldToTheOthers() throws {
    let plan = try FaultPlan(parsing: "error=write:mediaWriteError:blocks=9-9")
    let store = FaultStore(over: try MemoryStore(byteCount: 1 << 20), plan: plan)
    let setting = try makeLayer(store)
    let handler = TestHandler()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 4, handler: handler)
    let buffer = TestBuffer(byteCount: 4096)
    let other = port.attach(VolumeClient(of: setting.volume))
    var write = BlockRequest.on(store, .write, 0, 1, at: buffer.address)
    write.client = other
    #expect(handler.run(port, write)?.status == .success)
    let forced = BlockRequest.on(
      store, .write, 9, 1, at: buffer.address, flags: .forceUnitAccess)
    #expect(handler.run(port, forced)?.status == .mediaWriteError)
    #expect(handler.run(port, BlockRequest(.flush, client: other))?.status == .flushFailed)
    port.close()
  }

  @Test("ST-35: a quiesced client starts nothing and is reported when it has ended")
  func quiescedClientsSettle() throws {
    let plan = FaultPlan(delays: [.init(.milliseconds(30), of: .write)])
    let store = FaultStore(over: try MemoryStore(byteCount: 1 << 20), plan: plan)
    let setting = try makeLayer(store)
    let handler = TestHandler()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 8, handler: handler)
    let buffer = TestBuffer(byteCount: 4096)
    let client = port.attach(VolumeClient(of: setting.volume))
    var request = BlockRequest.on(store, .write, 0, 1, at: buffer.address, tag: 1)
    request.client = client
    #expect(port.submit(request))
    port.flushSubmissions()
    port.quiesce(client)
    request.tag = 2
    #expect(port.submit(request))
    port.poll()
    #expect(handler.completions == [BlockCompletion(tag: 2, status: .aborted)])
    #expect(handler.quiesced.isEmpty)
    // Others go on.
    let read = BlockRequest.on(store, .read, 0, 1, at: buffer.address, tag: 3)
    #expect(port.submit(read))
    while handler.quiesced.isEmpty {
      port.waitForCompletion()
      port.poll()
    }
    #expect(handler.completions.map(\.tag).sorted() == [1, 2, 3])
    #expect(handler.completions.filter { $0.status == .success }.count == 2)
    #expect(handler.quiesced == [client])
    #expect(port.inFlightCount(of: client) == 0)
    port.resume(client)
    #expect(handler.run(port, request)?.status == .success)
    port.detach(client)
    port.close()
  }

  @Test("ST-36: directly addressed blocks are inside, open and readable")
  func directAddressesAreChecked() throws {
    let store = try MemoryStore(byteCount: 16 * 4096)
    let setting = try makeLayer(store)
    let handler = TestHandler()
    let port = try setting.registration.openPort(
      on: setting.volume, access: .readWrite, depth: 4, handler: handler)
    let base = try #require(store.directMemory).address
    #expect(port.directAddress(block: 3, blockCount: 13) == base + 3 * 4096)
    #expect(port.directAddress(block: 3, blockCount: 14) == nil)
    #expect(port.directAddress(block: .max, blockCount: 2) == nil)
    #expect(port.directAddress(block: 0, blockCount: 0) == nil)
    #expect(handler.run(port, .on(store, .writeUncorrectable, 9, 1))?.status == .success)
    #expect(port.directAddress(block: 0, blockCount: 1) == nil)
    port.close()
    #expect(!port.isOpen)
  }
}
