import FabricCompletion
import FabricHostDriver
import FabricIOUnit
import FabricMessaging
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Foundation
import Synchronization

@testable import FabricHostDevices

/// A unit in this process, with one volume of 16 MiB in memory, and that volume as a device.
final class DeviceRig {
  /// Makes the volume that becomes the device.
  typealias Maker = (
    CompletionService, @escaping @Sendable (HostVolumeEvent) -> Void
  ) -> any HostVolume

  let directory = NSTemporaryDirectory() + "fabric-device-\(UUID().uuidString.prefix(8))"
  let layer = CommonLayer()
  let server: IOUnitServer
  let service: CompletionService
  let volume: any HostVolume
  let device: any HostBlockDevice

  /// What this machine lacks; empty: nothing.
  static func lacks(_ end: DeviceEnd) -> String {
    switch end.look() {
    case .present: ""
    case .missing(let words): words
    }
  }

  /// - Parameters:
  ///   - isAwake: the service does not sleep: with that fabrics' queues are armed, which may allocate
  ///     where nothing is optimised.
  ///   - plan: faults of the volume.
  init(
    isAwake: Bool = false, isReadOnly: Bool = false, plan: FaultPlan? = nil, _ make: Maker
  ) throws {
    try FileManager.default.createDirectory(
      atPath: directory + "/file", withIntermediateDirectories: true)
    let fabric = try UnitFabric(try SharedMemoryAdapter())
    let memory = try fabric.makeMemoryStore(byteCount: 16 << 20)
    let store: any Store = plan.map { FaultStore(over: memory, plan: $0) } ?? memory
    try layer.add(Volume(name: "m", store: store))
    let address = FabricAddress(fabric: "shm", endpoint: directory + "/unit.sock")
    server = try IOUnitServer(layer: layer, fabric: fabric, address: address)
    var options = CompletionService.Options()
    options.threadCount = 1
    if isAwake { options.spin = .seconds(1) }
    service = try CompletionService(options)
    let events = Events()
    volume = make(service) { event in
      if case .changed(.attached(let info)) = event { events.put(info) }
    }
    try volume.connect(
      [VolumeAddress(unit: address, volumeName: "m")], adapters: [SharedMemoryAdapter()])
    device = try volume.makeDevice(
      events.take(), in: directory + "/file", isReadOnly: isReadOnly,
      token: "test:\(UInt64.random(in: 1...(.max)))")
  }

  deinit {
    volume.close()
    service.stop()
    server.stop()
    try? FileManager.default.removeItem(atPath: directory)
  }

  private final class Events: Sendable {
    private let info = Mutex<RemoteVolumeInfo?>(nil)
    private let isThere = DispatchSemaphore(value: 0)
    func put(_ info: RemoteVolumeInfo) {
      self.info.withLock { $0 = info }
      isThere.signal()
    }
    func take() -> RemoteVolumeInfo {
      isThere.wait()
      return info.withLock { $0! }
    }
  }
}
