import FabricAdapterParts
import FabricHostDriver
import FabricMessaging
import FabricStorage
import FabricSharedMemory
import FabricVerbs
import TestMachine
import TestSupport
import Testing

@testable import FabricHostDevices
@testable import FabricHostDriver
@testable import FabricTCP

/// TCP under another name, as a second fabric that takes foreign memory.
private final class OtherTCP: ForwardingAdapter {
  let base: any Adapter
  let fabric = "other"

  init() throws { base = try TCPAdapter() }

  func connect(
    _ queuePair: any QueuePair, to address: FabricAddress, privateData: [UInt8],
    timeout: Duration, events: any ConnectionEventChannel
  ) throws(ConnectError) {
    try base.connect(
      queuePair, to: FabricAddress(fabric: "tcp", endpoint: address.endpoint),
      privateData: privateData, timeout: timeout, events: events)
  }
}

@Suite("vhost-user: paths of several fabrics", .untilStuck)
struct VhostUserPathTests {
  /// Whether a peer could do something with a key, at the fabric of that number.
  private func isAlive(
    _ key: RemoteKey?, at number: Int, of queue: RemoteVolumeQueue
  ) throws -> Bool {
    let memory = try #require(queue.pathMemory)
    let domain = try #require(memory.domains[number] as? TCPProtectionDomain)
    return domain.keys.remote.record(for: try #require(key)) != nil
  }

  @Test("VU-21: guest memory is registered with every fabric, of which none keeps a key to it")
  func registration() throws {
    let bench = try VhostUserBench(.tcp)
    let other = VolumeAddress(
      unit: FabricAddress(fabric: "other", endpoint: bench.address.unit.endpoint),
      volumeName: "f")
    try bench.makeDevice(others: [other], adapters: [OtherTCP()])
    let device = try #require(bench.device)
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.run { device.volume.pathReports.allSatisfy { $0.state == .ready } })
    let region = try #require(device.session?.regions.first?.registration)
    let memory = try #require(device.volume.pathMemory)
    let keys = try #require(memory.keys(at: 1)[region.localKey.rawValue])
    #expect(try !isAlive(region.remoteKey, at: 0, of: device.volume))
    #expect(try !isAlive(keys.remote, at: 1, of: device.volume))
    // Pieces that go as they are, by both.
    for round in 0..<4 {
      let offset = 0x10_0000 + round * 65536
      bench.memory.fill(UInt8(0x41 + round), at: offset, count: 65536)
      let sector = UInt64(round * 128)
      let written = MachinePiece(offset: offset, count: 65536)
      #expect(frontEnd.perform(1, sector: sector, [written], on: queue)?.status == 0)
      let back = MachinePiece(offset: 0x20_0000, count: 65536, isWritable: true)
      #expect(frontEnd.perform(0, sector: sector, [back], on: queue)?.status == 0)
      #expect(bench.memory.holds(UInt8(0x41 + round), at: 0x20_0000, count: 65536))
    }
    #expect(device.volume.pathReports.allSatisfy { $0.counters.requestCount > 1 })
    let count = memory.keys(at: 1).count
    bench.closeDevice()
    #expect(memory.keys(at: 1).count < count, "what was registered for the machine is not any more")
  }

  @Test(
    "VU-21: beside shared memory nothing of the guest's is registered; copies have no key at TCP")
  func besideSharedMemory() throws {
    let bench = try VhostUserBench(.shm)
    let elsewhere = VolumeAddress(
      unit: FabricAddress(fabric: "tcp", endpoint: try FreePort.endpoint()), volumeName: "f")
    try bench.makeDevice(others: [elsewhere], adapters: [TCPAdapter()])
    let device = try #require(bench.device)
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(device.session?.regions.first?.registration == nil)
    let copies = try #require(device.copies?.region)
    let keys = try #require(device.volume.pathMemory?.keys(at: 1)[copies.localKey.rawValue])
    #expect(try !isAlive(keys.remote, at: 1, of: device.volume))
    // By shared memory the unit writes to it with the region's own.
    let room = MachinePiece(offset: 0x10_0000, count: 4096, isWritable: true)
    #expect(frontEnd.perform(0, [room], on: queue)?.status == 0)
  }
}
