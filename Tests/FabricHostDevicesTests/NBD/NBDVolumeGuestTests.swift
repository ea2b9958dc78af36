import FabricCompletion
import FabricHostDriver
import FabricPlatform
import FabricStorage
import Foundation
import TestSupport
import Testing

@testable import FabricHostDevices

extension DeviceRig {
  /// With a device of the kernel's NBD client.
  convenience init(
    socketCount: Int, isReadOnly: Bool = false, plan: FaultPlan? = nil
  ) throws {
    var settings = NBDVolume.Settings()
    settings.socketCount = socketCount
    settings.depth = 16
    try self.init(isReadOnly: isReadOnly, plan: plan) { service, tell in
      NBDVolume(service: service, options: .init(), settings: settings, tell: tell)
    }
  }
}

@Suite(
  "A volume as a device of the kernel's NBD client, in this process", .serialized, .untilStuck,
  .enabled(if: Guest.isHere, Guest.comment))
struct NBDVolumeGuestTests {
  @Test("HD-71, HD-72: as many queues as sockets, and the volume's shape", arguments: [1, 3])
  func shape(_ socketCount: Int) throws {
    let rig = try DeviceRig(socketCount: socketCount)
    let queues = try FileManager.default.contentsOfDirectory(
      atPath: "/sys/block/\(rig.device.path.dropFirst("/dev/".count))/mq")
    #expect(queues.count == min(socketCount, Processor.availableCount))
    #expect(try rig.attribute("size") == "32768")
    #expect(try rig.attribute("queue/fua") == "1")
    #expect(try rig.attribute("queue/write_cache") == "write back")
    #expect(try rig.attribute("queue/max_sectors_kb") == "1024")
    #expect(try rig.attribute("ro") == "0")
    let device = try #require(RawFile(rig.device.path, isDirect: true))
    #expect(device.write(7, count: 65536, at: 65536) == .done(65536))
    #expect(device.read(65536, at: 65536) == .done(65536))
    #expect(device[65535] == 7)
  }

  @Test("HD-72: a volume to be read only is a device to be read only")
  func readOnly() throws {
    let rig = try DeviceRig(socketCount: 1, isReadOnly: true)
    #expect(try rig.attribute("ro") == "1")
    let device = try #require(RawFile(rig.device.path, isReadOnly: true, isDirect: true))
    #expect(device.read(4096, at: 0) == .done(4096))
  }

  @Test("HD-73: what the unit fails ends with EIO; the device goes on")
  func failures() throws {
    let plan = FaultPlan(failures: [.init(.capacityExceeded, of: .write, blocks: 16...16)])
    let rig = try DeviceRig(socketCount: 1, plan: plan)
    let device = try #require(RawFile(rig.device.path, isDirect: true))
    #expect(device.write(1, count: 4096, at: 16 * 4096) == .failed(EIO))
    #expect(device.write(7, count: 4096, at: 17 * 4096) == .done(4096))
    #expect(rig.volume.figures.errorCount >= 1)
  }

  @Test("HD-74: one that is held open stays; another's of the same number is left alone")
  func releases() throws {
    let rig = try DeviceRig(socketCount: 2)
    let nbd = try #require(rig.device as? NBDDevice)
    let holder = Process()
    holder.executableURL = URL(filePath: "/bin/sleep")
    holder.arguments = ["infinity"]
    do {
      let handle = try #require(FileHandle(forReadingAtPath: nbd.path))
      holder.standardInput = handle
      try holder.run()
      try handle.close()
    }
    defer { kill(holder.processIdentifier, SIGKILL) }
    #expect(throws: HostDeviceError.self) { try nbd.release() }
    #expect(nbd.isBound)
    let other = NBDDevice(number: nbd.number, token: nbd.token + "1")
    #expect(!other.isBound)
    other.abandon()
    #expect(nbd.isBound)
    #expect(NBDDevice.bound(with: nbd.token).map(\.number) == [nbd.number])
    kill(holder.processIdentifier, SIGKILL)
    holder.waitUntilExit()
    try nbd.flush()
    try nbd.release()
    #expect(!nbd.isBound)
  }

  @Test("HD-76: closed with requests under way they end with errors, and no device is bound")
  func closing() throws {
    let token: String
    let ended = DispatchSemaphore(value: 0)
    do {
      let plan = FaultPlan(delays: [.init(.seconds(3), of: .write)])
      let rig = try DeviceRig(socketCount: 2, plan: plan)
      token = try #require(rig.device as? NBDDevice).token
      let path = rig.device.path
      let writer = Thread {
        #expect(RawFile(path, isDirect: true)?.write(1, count: 4096, at: 0) == .failed(EIO))
        ended.signal()
      }
      writer.start()
      while rig.volume.figures.inFlightCount == 0 { sched_yield() }
      rig.volume.close()
      ended.wait()
    }
    #expect(NBDDevice.bound(with: token).isEmpty)
  }
}
