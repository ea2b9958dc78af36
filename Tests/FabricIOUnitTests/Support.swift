import FabricCompletion
import FabricHostDriver
import FabricIOUnit
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import class Foundation.FileManager
import func Foundation.NSTemporaryDirectory
import struct Foundation.UUID
import Synchronization
import Testing

/// A directory that goes with the test.
final class Scratch {
  let path = NSTemporaryDirectory() + "fabric-unit-\(UUID().uuidString.prefix(8))"
  init() throws {
    try FileManager.default.createDirectory(atPath: path, withIntermediateDirectories: true)
  }
  deinit { try? FileManager.default.removeItem(atPath: path) }
  func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// A unit in this process that serves a memory volume `m`, a file volume `f` and whatever a test
/// adds.
final class TestUnit {
  let scratch: Scratch
  let layer = CommonLayer()
  let fabric: UnitFabric
  let server: IOUnitServer
  let lines = Lines()

  init(
    _ scratch: Scratch, adapter: (any Adapter)? = nil, options: IOUnitServer.Options = .init(),
    memoryByteCount: UInt64 = 1 << 24,
    volumes: (UnitFabric) throws -> [Volume] = { _ in [] }
  ) throws {
    self.scratch = scratch
    fabric = try UnitFabric(try adapter ?? SharedMemoryAdapter())
    if memoryByteCount > 0 {
      try layer.add(
        Volume(name: "m", store: fabric.makeMemoryStore(byteCount: memoryByteCount)))
    }
    for volume in try volumes(fabric) { try layer.add(volume) }
    var options = options
    options.log = { [lines] line in lines.add(line) }
    server = try IOUnitServer(
      layer: layer, fabric: fabric,
      address: FabricAddress(fabric: "shm", endpoint: scratch.file("unit.sock")),
      options: options)
  }

  deinit { server.stop() }

  func address(_ volume: String) -> VolumeAddress {
    VolumeAddress(unit: server.address, volumeName: volume)
  }
}

/// Lines that several threads write.
final class Lines: Sendable {
  private let all = Mutex<[String]>([])
  func add(_ line: String) { all.withLock { $0.append(line) } }
  var values: [String] { all.withLock { $0 } }
}

/// A host in this process, run by the test's thread.
final class TestHost {
  let service: CompletionService
  private(set) var queue: RemoteVolumeQueue!
  var region: MemoryRegion!
  private let recorder = Recorder()
  var ends: [BlockCompletion] { recorder.ends }
  var states: [String] { recorder.states }
  let lines = Lines()

  init(
    _ address: VolumeAddress, options: RemoteVolumeQueue.Options = .init(),
    byteCount: Int = 1 << 20, service: CompletionService? = nil
  ) throws {
    self.service = try service ?? CompletionService()
    let service = self.service
    var options = options
    options.log = { [lines] in lines.add($0) }
    queue = try RemoteVolumeQueue(
      address, adapter: try SharedMemoryAdapter(), service: service, options: options,
      handler: recorder)
    region = try queue.allocate(byteCount: byteCount)
    queue.attach()
  }

  deinit {
    queue.close()
    service.turn()
  }

  var isAttached: Bool { if case .attached = queue.state { true } else { false } }
  var failure: RemoteVolumeError? {
    if case .failed(let error) = queue.state { error } else { nil }
  }

  /// Runs until `condition` holds; false after `limit`.
  @discardableResult
  func run(_ limit: Duration = .seconds(10), until condition: () -> Bool) -> Bool {
    service.run(until: condition, deadline: .now + limit)
    return condition()
  }

  /// Submits one request and runs until it has ended.
  func perform(
    _ operation: BlockOperation, _ block: UInt64, _ count: UInt32, offset: Int = 0,
    flags: BlockFlags = [], blockByteCount: Int = 4096
  ) -> BlockCompletion? {
    recorder.ends.removeAll()
    let request =
      operation.movesData
      ? RemoteRequest(
        operation, block: block, blockCount: count, region: region, offset: offset,
        byteCount: Int(count) * blockByteCount, tag: 77, flags: flags)
      : RemoteRequest(operation, block: block, blockCount: count, tag: 77, flags: flags)
    guard queue.submit(request) else { return nil }
    queue.flushSubmissions()
    run { !ends.isEmpty }
    return ends.first
  }

  func fill(_ byte: UInt8, offset: Int = 0, count: Int = 4096) {
    for index in offset..<offset + count { unsafe region.bytes[index] = byte }
  }

  func holds(_ byte: UInt8, offset: Int = 0, count: Int = 4096) -> Bool {
    (offset..<offset + count).allSatisfy { unsafe region.bytes[$0] == byte }
  }
}

/// Keeps what it is told.
final class Recorder: RemoteVolumeHandler {
  var ends: [BlockCompletion] = []
  var states: [String] = []

  func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
    for index in completions.indices { ends.append(completions[index]) }
  }

  func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
    states.append("\(state)")
  }
}
