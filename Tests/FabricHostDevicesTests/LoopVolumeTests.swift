import CAllocationCounter
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
import TestSupport
import Testing

@testable import FabricHostDevices

/// A unit in this process, with one volume in memory, and that volume as a device.
private final class Rig {
  let directory = NSTemporaryDirectory() + "fabric-device-\(UUID().uuidString.prefix(8))"
  let layer = CommonLayer()
  let server: IOUnitServer
  let service: CompletionService
  let volume: LoopVolume
  let device: LoopDevice

  /// What this machine lacks; empty: nothing.
  static let lacks: String =
    switch DeviceEnd.loop.look() {
    case .present: ""
    case .missing(let words): words
    }

  /// - Parameter isAwake: the service does not sleep: with that fabrics' queues are armed, which may
  ///   allocate where nothing is optimised.
  init(isAwake: Bool = false) throws {
    try FileManager.default.createDirectory(
      atPath: directory + "/file", withIntermediateDirectories: true)
    let fabric = try UnitFabric(try SharedMemoryAdapter())
    try layer.add(Volume(name: "m", store: fabric.makeMemoryStore(byteCount: 16 << 20)))
    let address = FabricAddress(fabric: "shm", endpoint: directory + "/unit.sock")
    server = try IOUnitServer(layer: layer, fabric: fabric, address: address)
    var options = CompletionService.Options()
    options.threadCount = 1
    if isAwake { options.spin = .seconds(1) }
    service = try CompletionService(options)
    let events = Events()
    volume = LoopVolume(service: service, options: .init(), depth: 16) { event in
      if case .changed(.attached(let info)) = event { events.put(info) }
    }
    try volume.connect(
      [VolumeAddress(unit: address, volumeName: "m")], adapters: [SharedMemoryAdapter()])
    device = try volume.expose(
      events.take(), in: directory + "/file", isReadOnly: false, token: "test:\(UUID())")
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

@Suite(
  "What a device's requests allocate", .serialized, .timeLimit(.minutes(5)),
  .enabled(if: Rig.lacks.isEmpty, Comment(rawValue: Rig.lacks)))
struct LoopAllocationTests {
  @Test("HD-11: of each request only libfuse allocates, one piece, and we nothing")
  func allocations() throws {
    try #require(Processor.availableCount > 1, "with one processor the service sleeps")
    let rig = try Rig(isAwake: true)
    let device = try #require(RawFile(rig.device.path, isDirect: true))
    func move(_ count: Int) {
      for index in 0..<count {
        #expect(device.write(5, count: 65536, at: index % 64 * 65536) == .done(65536))
        #expect(device.read(65536, at: index % 64 * 65536) == .done(65536))
      }
    }
    move(200)
    let before = rig.service.result { fabric_allocation_count() }
    let asked = rig.volume.figures
    move(2000)
    let after = rig.service.result { fabric_allocation_count() }
    let figures = rig.volume.figures
    let count =
      figures.readCount - asked.readCount + figures.writeCount - asked.writeCount
    #expect(count == 4000)
    // The looks at the counters take a few pieces, too.
    #expect(after - before <= count + 32, "\(after - before) for \(count) requests")
  }
}

@Suite(
  "A volume as a loop device, in this process", .serialized, .timeLimit(.minutes(5)),
  .enabled(if: Rig.lacks.isEmpty, Comment(rawValue: Rig.lacks)))
struct LoopVolumeTests {
  @Test("HD-30: closed it leaves no device, no mount and no session")
  func closing() throws {
    let path: String
    do {
      let rig = try Rig()
      path = rig.device.path
      #expect(rig.device.isBound && rig.device.isDirect)
      try rig.device.flush()
      try rig.device.release()
      #expect(!rig.device.isBound)
    }
    let mounts = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
    #expect(!mounts.contains("fabric-device-"))
    #expect(DeviceUsers.find(path).isEmpty)
  }

  @Test(
    "HD-18, HD-33: a device that is held open is not released, and is as before; nor is another's")
  func releases() throws {
    let rig = try Rig()
    var holder = RawFile(rig.device.path, isReadOnly: true)
    #expect(throws: HostDeviceError.self) { try rig.device.release() }
    #expect(rig.device.isBound)
    let other = LoopDevice(number: rig.device.number, token: "another's")
    other.abandon()
    try? other.release()
    #expect(rig.device.isBound && holder != nil)
    holder = nil
    #expect(rig.device.isBound)
    #expect(LoopDevice.bound(with: rig.device.token).map(\.number) == [rig.device.number])
  }
}

@Suite("What the kernel is told of a request's end")
struct BlockStatusTests {
  @Test("HD-14: every status has a number of its kind")
  func numbers() {
    let expected: [BlockStatus: CInt] = [
      .success: 0, .invalidField: EINVAL, .lbaOutOfRange: ENOSPC, .readOnly: EROFS,
      .mediaReadError: ENODATA, .mediaWriteError: EIO, .compareFailure: EILSEQ,
      .capacityExceeded: ENOSPC, .flushFailed: EIO, .aborted: EIO, .unsupported: EOPNOTSUPP,
      .internalError: EIO,
    ]
    for status in BlockStatus.allCases {
      #expect(status.errorNumber(of: .write) == expected[status])
    }
    #expect(BlockStatus.lbaOutOfRange.errorNumber(of: .read) == EIO)
  }
}
