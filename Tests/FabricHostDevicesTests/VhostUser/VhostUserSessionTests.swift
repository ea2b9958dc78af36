import FabricCompletion
import FabricHostDriver
import FabricPlatform
import Foundation
import TestMachine
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("vhost-user: front ends", .untilStuck)
struct VhostUserSessionTests {
  @Test("VU-1: the socket is its user's alone; a second front end is refused, and one after is not")
  func oneAtATime() throws {
    let bench = try VhostUserBench()
    let (first, queue) = try bench.start()
    let mode = try FileManager.default.attributesOfItem(atPath: bench.path)[.posixPermissions]
    #expect((mode as? NSNumber)?.intValue == 0o600)
    let second = try bench.connect()
    #expect(second.reply() == nil)
    #expect(bench.log.values.contains { $0.contains("has the volume") })
    #expect(first.perform(4, on: queue)?.status == 0)
    StreamSocket.end(first.socket)
    #expect(first.run { bench.device?.session == nil })
    let (third, other) = try bench.start()
    #expect(third.perform(4, on: other)?.status == 0)
  }

  @Test("VU-1: a front end that comes before the volume waits for it")
  func early() throws {
    let bench = try VhostUserBench()
    bench.stopUnit()
    bench.options.volume.isPatientAtFirst = true
    let device = try bench.makeDevice()
    let frontEnd = try bench.connect()
    try frontEnd.send(VhostUser.Code.getFeatures.rawValue)
    for _ in 0..<100 { bench.service.turn() }
    #expect(device.session == nil)
    try bench.startUnit()
    #expect(frontEnd.reply()?.payload.count == 8)
    #expect(device.hasFrontEnd)
  }

  @Test("VU-2: a living socket is not taken over, one that was left behind is")
  func sockets() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    #expect(throws: VhostUserError.self) {
      // The one that lives is asked on this very thread, so it is not: the kernel answers.
      try VhostUserBlock(
        [bench.address], path: bench.path, adapters: [bench.adapter], service: bench.service)
    }
    bench.closeDevice()
    #expect(!FileManager.default.fileExists(atPath: bench.path))
    do { _ = try StreamSocket.listen(atPath: bench.path) }
    #expect(FileManager.default.fileExists(atPath: bench.path))
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
  }

  @Test("VU-3: a front end that goes with requests under way; the next waits until they have ended")
  func leaves() throws {
    let bench = try VhostUserBench(.tcp)
    let (first, queue) = try bench.start()
    #expect(first.perform(4, on: queue)?.status == 0)
    bench.stopUnit()
    let data = MachinePiece(offset: 0x10_0000, count: 4096, isWritable: true)
    queue.add(
      MachineRequest(type: 0, data: [data], place: 0x8000).pieces(in: bench.memory))
    first.kicks[0].signal()
    let device = try #require(bench.device)
    #expect(first.run { device.session?.requestCount == 1 })
    StreamSocket.end(first.socket)
    let second = try bench.connect()
    try second.send(VhostUser.Code.getFeatures.rawValue)
    #expect(second.run { !device.hasFrontEnd })
    for _ in 0..<100 { bench.service.turn() }
    #expect(device.session?.requestCount == 1)
    try bench.startUnit()
    #expect(second.reply()?.payload.count == 8)
    // The ring of one that has gone is not touched.
    #expect(queue.reap().isEmpty)
  }

  @Test("VU-12: answers come where they are asked for, and own answers always")
  func answers() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    let frontEnd = try bench.connect()
    let features = try #require(frontEnd.ask(.getFeatures))
    #expect(features.code == 1)
    #expect(features.flags == 5)
    #expect(features.word & 1 << 30 != 0)
    frontEnd.negotiate()
    let configuration = try #require(
      frontEnd.ask(
        .getConfiguration, FrontEnd.words(0, 72, 0) + [UInt8](repeating: 9, count: 72)))
    #expect(configuration.payload.count == 84)
    let bytes = bench.device?.device?.configuration ?? []
    #expect(Array(configuration.payload[12..<72]) == bytes)
    #expect(configuration.payload[72...].allSatisfy { $0 == 0 })
    #expect(frontEnd.ask(.getMemorySlotCount)?.word == 32)
    #expect(frontEnd.tell(.resetOwner))
    #expect(frontEnd.tell(.resetDevice))
    // What cannot be written is not.
    #expect(!frontEnd.tell(.setConfiguration, FrontEnd.words(32, 1, 0) + [1]))
  }

  @Test("VU-15: GET_VRING_BASE waits for what is under way, and says where to go on")
  func base() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    bench.stopUnit()
    queue.add(MachineRequest(type: 4, place: 0x8000).pieces(in: bench.memory))
    frontEnd.kicks[0].signal()
    let device = try #require(bench.device)
    #expect(frontEnd.run { device.session?.requestCount == 1 })
    try frontEnd.send(VhostUser.Code.getQueueBase.rawValue, FrontEnd.words(0, 0))
    #expect(frontEnd.run { device.session?.pending != nil })
    #expect(queue.reap().isEmpty)
    try bench.startUnit()
    let reply = try #require(frontEnd.reply())
    #expect(reply.payload == FrontEnd.words(0, 2))
    #expect(queue.reap().count == 1)
    // It is stopped, and starts again where it was.
    queue.add(MachineRequest(type: 4, place: 0x8100).pieces(in: bench.memory))
    frontEnd.kicks[0].signal()
    for _ in 0..<200 { bench.service.turn() }
    #expect(queue.reap().isEmpty)
    let word = FrontEnd.longs(0)
    #expect(frontEnd.tell(.setQueueKick, word, descriptors: [frontEnd.kicks[0].number]))
    #expect(frontEnd.run { !queue.reap().isEmpty })
  }

  @Test("VU-15, VU-22: memory is exchanged while queues run, added and removed")
  func memory() throws {
    let bench = try VhostUserBench(.tcp)
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(frontEnd.setMemory())
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    let more = try MachineMemory(byteCount: 1 << 20)
    var region = more.region
    let fd = more.file.descriptor.rawValue
    // It would overlap.
    let pad = FrontEnd.longs(0)
    #expect(!frontEnd.tell(.addMemoryRegion, pad + FrontEnd.bytes(region), descriptors: [fd]))
    region.guestAddress += 1 << 32
    region.userAddress += 1 << 32
    #expect(frontEnd.tell(.addMemoryRegion, pad + FrontEnd.bytes(region), descriptors: [fd]))
    let far = MachinePiece(offset: 1 << 32, count: 4096)
    unsafe more.place(0).initializeMemory(as: UInt8.self, repeating: 0x42, count: 4096)
    #expect(frontEnd.perform(1, [far], on: queue)?.status == 0)
    let back = MachinePiece(offset: 0x10_0000, count: 4096, isWritable: true)
    #expect(frontEnd.perform(0, [back], on: queue)?.status == 0)
    #expect(bench.memory.holds(0x42, at: back.offset, count: 4096))
    #expect(frontEnd.tell(.removeMemoryRegion, pad + FrontEnd.bytes(region), descriptors: [fd]))
    #expect(!frontEnd.tell(.removeMemoryRegion, pad + FrontEnd.bytes(region)))
    // Where the queue itself lies: what is refused has changed nothing.
    #expect(!frontEnd.tell(.removeMemoryRegion, pad + FrontEnd.bytes(bench.memory.region)))
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    // Now it is an address of nothing.
    queue.add(MachineRequest(type: 1, data: [far], place: 0x8000).pieces(in: bench.memory))
    frontEnd.kicks[0].signal()
    #expect(frontEnd.run { frontEnd.hasEvent(frontEnd.errors[0]) })
  }

  @Test("VU-46: a new size is told, and blocks behind the old end are the machine's")
  func resize() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    try frontEnd.makeBackEndChannel()
    let device = try #require(bench.device)
    device.resize(blockCount: 512)
    let channel = try #require(frontEnd.backEndChannel)
    let told = try #require(frontEnd.reply(from: channel))
    #expect((told.code, told.flags, told.payload.count) == (2, 1, 0))
    let reply = try #require(
      frontEnd.ask(.getConfiguration, FrontEnd.words(0, 8, 0) + [UInt8](repeating: 0, count: 8)))
    #expect(Array(reply.payload[12...]) == FrontEnd.longs(512 * 8))
    let block = [MachinePiece(offset: 0x10_0000, count: 4096, isWritable: true)]
    #expect(frontEnd.perform(0, sector: 512 * 8, block, on: queue)?.status == 1)
    device.resize(blockCount: 1024)
    #expect(frontEnd.perform(0, sector: 512 * 8, block, on: queue)?.status == 0)
  }
}
