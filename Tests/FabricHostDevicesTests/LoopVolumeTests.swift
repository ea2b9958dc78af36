import CAllocationCounter
import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricStorage
import Foundation
import TestSupport
import Testing

@testable import FabricHostDevices

extension DeviceRig {
  static let lacksLoop = lacks(.loop)

  /// With a loop device.
  convenience init(isAwake: Bool = false) throws {
    try self.init(isAwake: isAwake) { service, tell in
      LoopVolume(service: service, options: .init(), depth: 16, tell: tell)
    }
  }

  var loop: LoopDevice { device as! LoopDevice }
}

@Suite(
  "What a device's requests allocate", .serialized, .untilStuck,
  .enabled(if: DeviceRig.lacksLoop.isEmpty, Comment(rawValue: DeviceRig.lacksLoop)))
struct LoopAllocationTests {
  @Test("HD-11: of each request only libfuse allocates, one piece, and we nothing")
  func allocations() throws {
    try #require(Processor.availableCount > 1, "with one processor the service sleeps")
    let rig = try DeviceRig(isAwake: true)
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
  "A volume as a loop device, in this process", .serialized, .untilStuck,
  .enabled(if: DeviceRig.lacksLoop.isEmpty, Comment(rawValue: DeviceRig.lacksLoop)))
struct LoopVolumeTests {
  @Test("HD-30: closed it leaves no device, no mount and no session")
  func closing() throws {
    let directory: String
    do {
      let rig = try DeviceRig()
      directory = rig.directory
      #expect(rig.device.isBound && rig.loop.isDirect)
      try rig.device.flush()
      try rig.device.release()
      #expect(!rig.device.isBound)
    }
    let mounts = try String(contentsOfFile: "/proc/self/mountinfo", encoding: .utf8)
    // Other tests have mounts of their own.
    #expect(!mounts.contains(directory))
  }

  @Test(
    "HD-18, HD-33: a device that is held open is not released, and is as before; nor is another's")
  func releases() throws {
    let rig = try DeviceRig()
    var holder = RawFile(rig.device.path, isReadOnly: true)
    #expect(throws: HostDeviceError.self) { try rig.device.release() }
    #expect(rig.device.isBound)
    let other = LoopDevice(number: rig.loop.number, token: "another's")
    other.abandon()
    try? other.release()
    #expect(rig.device.isBound && holder != nil)
    holder = nil
    #expect(rig.device.isBound)
    #expect(LoopDevice.bound(with: rig.loop.token).map(\.number) == [rig.loop.number])
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
