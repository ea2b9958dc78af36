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
  /// With a device of the kernel's user-space block driver.
  convenience init(
    ublk settings: UBLKVolume.Settings, isAwake: Bool = false, isReadOnly: Bool = false,
    plan: FaultPlan? = nil
  ) throws {
    try Guest.shell("modprobe ublk_drv")
    try self.init(isAwake: isAwake, isReadOnly: isReadOnly, plan: plan) { service, tell in
      UBLKVolume(service: service, options: .init(), settings: settings, tell: tell)
    }
  }

  var ublk: UBLKDevice { device as! UBLKDevice }

  /// What the kernel says of the device, such as `queue/fua`.
  func attribute(_ name: String) throws -> String {
    let path = "/sys/block/\(device.path.dropFirst("/dev/".count))/\(name)"
    return try String(contentsOfFile: path, encoding: .utf8)
      .trimmingCharacters(in: .whitespacesAndNewlines)
  }
}

@Suite(
  "A volume as a ublk device, in this process", .serialized, .untilStuck,
  .enabled(if: Guest.isHere, Guest.comment))
struct UBLKVolumeGuestTests {
  private var settings: UBLKVolume.Settings {
    var settings = UBLKVolume.Settings()
    settings.queueCount = 2
    settings.depth = 16
    return settings
  }

  @Test("HD-63: nothing of ours is allocated per request")
  func allocations() throws {
    let rig = try DeviceRig(ublk: settings, isAwake: true)
    let device = try #require(RawFile(rig.device.path, isDirect: true))
    func move(_ count: Int) {
      for index in 0..<count {
        #expect(device.write(5, count: 65536, at: index % 64 * 65536) == .done(65536))
        #expect(device.read(65536, at: index % 64 * 65536) == .done(65536))
      }
    }
    move(20)
    let before = rig.service.result { fabric_allocation_count() }
    let asked = rig.volume.figures
    move(200)
    let after = rig.service.result { fabric_allocation_count() }
    let figures = rig.volume.figures
    #expect(figures.readCount - asked.readCount == 200)
    #expect(figures.writeCount - asked.writeCount == 200)
    // The looks at the counters take a few pieces.
    #expect(after - before <= 32, "\(after - before) for 400 requests")
  }

  @Test("HD-61, HD-62: as many queues as were asked for, and the volume's shape")
  func shape() throws {
    let rig = try DeviceRig(ublk: settings)
    let queues = try FileManager.default.contentsOfDirectory(
      atPath: "/sys/block/\(rig.device.path.dropFirst("/dev/".count))/mq")
    #expect(queues.count == min(2, Processor.availableCount))
    #expect(try rig.attribute("size") == "32768")
    #expect(try rig.attribute("queue/fua") == "1")
    #expect(try rig.attribute("queue/write_cache") == "write back")
    #expect(try rig.attribute("ro") == "0")
  }

  @Test("HD-61: a volume to be read only is a device to be read only")
  func readOnly() throws {
    let rig = try DeviceRig(ublk: settings, isReadOnly: true)
    #expect(try rig.attribute("ro") == "1")
    let device = try #require(RawFile(rig.device.path, isReadOnly: true, isDirect: true))
    #expect(device.read(4096, at: 0) == .done(4096))
  }

  @Test("HD-63: what the unit fails ends with HD-14's number; the device goes on")
  func failures() throws {
    let plan = FaultPlan(failures: [
      .init(.mediaReadError, of: .read, blocks: 8...8),
      .init(.capacityExceeded, of: .write, blocks: 16...16),
    ])
    let rig = try DeviceRig(ublk: settings, plan: plan)
    let device = try #require(RawFile(rig.device.path, isDirect: true))
    let block = 4096
    #expect(device.read(block, at: 8 * block) == .failed(ENODATA))
    #expect(device.write(1, count: block, at: 16 * block) == .failed(ENOSPC))
    #expect(device.write(7, count: block, at: 17 * block) == .done(block))
    #expect(device.read(block, at: 17 * block) == .done(block))
    #expect(device[0] == 7)
    #expect(rig.volume.figures.errorCount >= 2)
  }

  @Test("HD-64: one that is held open stays; another's of the same number is left alone")
  func releases() throws {
    let rig = try DeviceRig(ublk: settings)
    let holder = Process()
    holder.executableURL = URL(filePath: "/bin/sleep")
    holder.arguments = ["infinity"]
    do {
      let handle = try #require(FileHandle(forReadingAtPath: rig.device.path))
      holder.standardInput = handle
      try holder.run()
      try handle.close()
    }
    defer { kill(holder.processIdentifier, SIGKILL) }
    #expect(throws: HostDeviceError.self) { try rig.device.release() }
    #expect(rig.device.isBound)
    let other = UBLKDevice(number: rig.ublk.number, mark: rig.ublk.mark &+ 1)
    #expect(!other.isBound)
    other.abandon()
    #expect(rig.device.isBound)
    kill(holder.processIdentifier, SIGKILL)
    holder.waitUntilExit()
    try rig.device.flush()
    try rig.device.release()
    #expect(!rig.device.isBound)
  }

  @Test("HD-66: closed with requests under way they end with errors, and no device is left")
  func closing() throws {
    let path: String
    let ended = DispatchSemaphore(value: 0)
    do {
      let plan = FaultPlan(delays: [.init(.seconds(3), of: .write)])
      let rig = try DeviceRig(ublk: settings, plan: plan)
      path = rig.device.path
      let writer = Thread { [path] in
        #expect(RawFile(path, isDirect: true)?.write(1, count: 4096, at: 0) == .failed(EIO))
        ended.signal()
      }
      writer.start()
      while rig.volume.figures.inFlightCount == 0 { sched_yield() }
      rig.volume.close()
      ended.wait()
    }
    #expect(!FileManager.default.fileExists(atPath: path))
  }
}
