import FabricCompletion
import FabricHostDriver
import FabricIOUnit
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricTCP
import FabricVerbs
import class Foundation.FileManager
import func Foundation.NSTemporaryDirectory
import struct Foundation.UUID
import Synchronization
import TestMachine
import Testing

@testable import FabricHostDevices

/// Lines that several threads write.
final class LogLines: Sendable {
  private let all = Mutex<[String]>([])
  func add(_ line: String) { all.withLock { $0.append(line) } }
  var values: [String] { all.withLock { $0 } }
}

/// A unit with a file volume of 4 MiB, which may go and come back, and back ends for it.
final class VhostUserBench {
  enum Fabric: String, CaseIterable { case shm, tcp }

  let directory = NSTemporaryDirectory() + "fabric-vhost-\(UUID().uuidString.prefix(8))"
  let fabric: Fabric
  let service: CompletionService
  let adapter: any Adapter
  let memory: MachineMemory
  let log = LogLines()
  var plan: FaultPlan?
  var blockByteCount: UInt32 = 4096
  private var unit: IOUnitServer?
  private var layer: CommonLayer?
  private var place: FabricAddress
  private(set) var device: VhostUserBlock?
  var options = VhostUserBlock.Options()

  init(_ fabric: Fabric = .shm, plan: FaultPlan? = nil) throws {
    self.fabric = fabric
    self.plan = plan
    try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
    service = try CompletionService()
    memory = try MachineMemory()
    switch fabric {
    case .shm:
      adapter = try SharedMemoryAdapter()
      place = FabricAddress(fabric: "shm", endpoint: directory + "/unit.sock")
    case .tcp:
      adapter = try TCPAdapter()
      place = FabricAddress(fabric: "tcp", endpoint: "127.0.0.1:0")
    }
    options.queueCount = 4
    options.log = { [log] in log.add($0) }
    options.volume.log = { [log] in log.add($0) }
    try startUnit()
  }

  deinit {
    device?.close()
    service.turn()
    stopUnit()
    try? FileManager.default.removeItem(atPath: directory)
  }

  var path: String { directory + "/v.sock" }
  var address: VolumeAddress { VolumeAddress(unit: place, volumeName: "f") }

  func startUnit() throws {
    let layer = CommonLayer()
    var fileOptions = FileStore.Options()
    fileOptions.byteCountIfMissing = 4 << 20
    let file = try FileStore.open(path: directory + "/f.img", options: fileOptions)
    let store: any Store = plan.map { FaultStore(over: file, plan: $0) } ?? file
    try layer.add(Volume(name: "f", store: store, identifier: file.identifier))
    let unitAdapter: any Adapter =
      fabric == .shm ? try SharedMemoryAdapter() : try TCPAdapter()
    let made = try IOUnitServer(
      layer: layer, fabric: try UnitFabric(unitAdapter), address: place)
    self.layer = layer
    place = made.address
    unit = made
  }

  func stopUnit() {
    unit?.stop()
    unit = nil
    layer = nil
  }

  /// - Parameters: further paths, and adapters for their fabrics.
  @discardableResult
  func makeDevice(
    others: [VolumeAddress] = [], adapters: [any Adapter] = []
  ) throws -> VhostUserBlock {
    let made = try VhostUserBlock(
      [address] + others, path: path, adapters: [adapter] + adapters, service: service,
      options: options)
    device = made
    return made
  }

  func closeDevice() {
    device?.close()
    device = nil
    service.turn()
  }

  func connect() throws -> FrontEnd {
    try FrontEnd(path: path, memory: memory) { [service] in
      service.run(until: $0, deadline: .now + .seconds(10))
    }
  }

  /// A device, and a front end that runs one queue.
  func start(
    size: Int = 64, without missing: DeviceFeatures = []
  ) throws -> (frontEnd: FrontEnd, queue: MachineQueue) {
    if device == nil { try makeDevice() }
    let frontEnd = try connect()
    let features = frontEnd.negotiate(without: missing)
    #expect(frontEnd.setMemory())
    let queue = MachineQueue(
      memory, size: size, base: 0, hasEventIndex: features.contains(.eventIndex))
    memory.fill(0, at: 0, count: queue.byteCount)
    try frontEnd.start(queue)
    return (frontEnd, queue)
  }
}

extension MachineMemory {
  /// What a queue over it needs, without a front end.
  func guestMemory() throws -> GuestMemory {
    try GuestMemory([GuestRegion(region, address: mapping.address, owner: mapping)])
  }
}
