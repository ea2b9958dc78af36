import FabricHostDriver
import FabricPlatform
import Foundation
import TestMachine
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("vhost-user: what is under way", .untilStuck)
struct VhostUserInflightTests {
  /// Inflight memory and a queue over it, as after each start of a back end.
  private final class Life {
    let memory: MachineMemory
    let driver: MachineQueue
    let inflight: InflightMemory

    init(size: Int = 8) throws {
      memory = try MachineMemory(byteCount: 1 << 20)
      driver = MachineQueue(memory, size: size, base: 0, hasEventIndex: false)
      let byteCount = InflightMemory.byteCount(queueCount: 2, queueSize: size)
      inflight = InflightMemory(
        try Mapping.anonymous(byteCount: byteCount), queueCount: 2, queueSize: size)
    }

    func ring(base: UInt16 = 0) throws -> SplitQueue {
      try SplitQueue(
        size: driver.size, addresses: driver.addresses, base: base, features: [],
        memory: memory.guestMemory(), inflight: inflight.queue(1, size: driver.size))
    }

    func add(_ count: Int) -> [Int] {
      (0..<count).map { _ in driver.add([MachinePiece(offset: 0x10000, count: 16)]) }
    }
  }

  @Test("VU-52 to VU-54: a back end that dies leaves what was taken, in order, and nothing else")
  func order() throws {
    let life = try Life()
    let heads = life.add(5)
    var ring = try life.ring()
    for head in heads { #expect(try ring.take() == head) }
    ring.give(heads[3], byteCount: 0)
    ring.give(heads[0], byteCount: 0)
    _ = ring.publish()
    // Written, but not told of: it did not happen.
    ring.give(heads[1], byteCount: 0)
    ring = try life.ring(base: 99)
    #expect(ring.availableIndex == 5)
    let later = life.add(1)
    for head in [heads[1], heads[2], heads[4], later[0]] { #expect(try ring.take() == head) }
    #expect(try ring.take() == nil)
    #expect(life.driver.reap().map(\.head) == [heads[3], heads[0]])
  }

  @Test("VU-52: one that dies after it has told the driver, and before it has noted so")
  func halfNoted() throws {
    let life = try Life()
    let heads = life.add(4)
    let ring = try life.ring()
    for _ in heads { _ = try ring.take() }
    // What `publish` does, up to its store of the used index.
    for head in heads[1...2] { ring.give(head, byteCount: 0) }
    life.memory.put(UInt16(2), at: life.driver.used + 2)
    let after = try life.ring()
    #expect(after.availableIndex == 4)
    #expect(try after.take() == heads[0])
    #expect(try after.take() == heads[3])
    #expect(try after.take() == nil)
  }

  @Test("VU-52: memory that makes no sense begins anew, or leads to nothing outside the queue")
  func nonsense() throws {
    let life = try Life()
    var generator = SystemRandomNumberGenerator()
    for _ in 0..<300 {
      for offset in 0..<life.inflight.mapping.byteCount {
        unsafe life.inflight.mapping.bytes[offset] = UInt8.random(in: 0...3, using: &generator)
      }
      // A region that looks like one.
      let start = InflightQueue.byteCount(8)
      unsafe life.inflight.mapping.bytes[start + 8] = 1
      unsafe life.inflight.mapping.bytes[start + 9] = 0
      unsafe life.inflight.mapping.bytes[start + 10] = 8
      unsafe life.inflight.mapping.bytes[start + 11] = 0
      let ring = try life.ring()
      while (try? ring.take()) ?? nil != nil {}
    }
    // Never served: what the front end says is where to go on.
    for offset in 0..<life.inflight.mapping.byteCount {
      unsafe life.inflight.mapping.bytes[offset] = 0
    }
    #expect(try life.ring(base: 3).availableIndex == 3)
  }

  @Test(
    "VU-50 to VU-55, VU-53: writes under way when a back end goes are done by the next, each once",
    arguments: VhostUserBench.Fabric.allCases)
  func resubmission(_ fabric: VhostUserBench.Fabric) throws {
    let bench = try VhostUserBench(fabric)
    try bench.makeDevice()
    var frontEnd = try bench.connect()
    frontEnd.negotiate()
    // QEMU's structure has padding at its end.
    let wanted = FrontEnd.longs(0, 0) + [1, 0, 64, 0] + [0, 0, 0, 0]
    let reply = try #require(frontEnd.ask(.getInflightMemory, wanted))
    #expect(reply.payload.count == 24)
    let noted = try #require(reply.descriptors.first)
    #expect(frontEnd.tell(.setInflightMemory, reply.payload, descriptors: [noted.number]))
    #expect(frontEnd.setMemory())
    let queue = MachineQueue(bench.memory, size: 64, base: 0)
    try frontEnd.start(queue)
    #expect(frontEnd.perform(4, on: queue)?.status == 0)

    bench.stopUnit()
    var requests: [MachineRequest] = []
    for index in 0..<8 {
      let data = MachinePiece(offset: 0x10_0000 + index * 4096, count: 4096)
      bench.memory.fill(UInt8(0x50 + index), at: data.offset, count: 4096)
      let request = MachineRequest(
        type: 1, sector: UInt64(index * 8), data: [data], place: 0x9000 + index * 64)
      queue.add(request.pieces(in: bench.memory))
      requests.append(request)
    }
    frontEnd.kicks[0].signal()
    let device = try #require(bench.device)
    #expect(frontEnd.run { device.session?.requestCount == 8 })
    #expect(queue.reap().isEmpty)
    bench.closeDevice()
    #expect(!FileManager.default.fileExists(atPath: bench.path))
    #expect(frontEnd.reply() == nil)

    try bench.startUnit()
    try bench.makeDevice()
    frontEnd = try bench.connect()
    frontEnd.negotiate()
    #expect(frontEnd.tell(.setInflightMemory, reply.payload, descriptors: [noted.number]))
    #expect(frontEnd.setMemory())
    // Nobody kicks for what was made available before; and the base is what QEMU would guess.
    try frontEnd.start(queue, base: queue.usedIndex)
    var ends: [Int] = []
    #expect(
      frontEnd.run {
        ends += queue.reap().map(\.head)
        return ends.count == 8
      })
    #expect(Set(ends).count == 8)
    for request in requests { #expect(request.status(in: bench.memory) == 0) }
    let back = MachinePiece(offset: 0x20_0000, count: 8 * 4096, isWritable: true)
    #expect(frontEnd.perform(0, [back], on: queue)?.status == 0)
    for index in 0..<8 {
      let offset = back.offset + index * 4096
      #expect(bench.memory.holds(UInt8(0x50 + index), at: offset, count: 4096))
    }
  }

  @Test("VU-51: inflight memory that is none of ours is refused")
  func foreign() throws {
    let bench = try VhostUserBench()
    try bench.makeDevice()
    let frontEnd = try bench.connect()
    frontEnd.negotiate()
    let count = UInt64(InflightMemory.byteCount(queueCount: 1, queueSize: 64))
    let description = [UInt8]([1, 0, 64, 0])
    let short = try MemoryFile(name: "short", byteCount: 100)
    let fd = short.descriptor.rawValue
    #expect(
      !frontEnd.tell(
        .setInflightMemory, FrontEnd.longs(count * 2, 0) + description, descriptors: [fd]))
    #expect(
      !frontEnd.tell(
        .setInflightMemory, FrontEnd.longs(count, 4096) + description, descriptors: [fd]))
    let event = try EventDescriptor()
    #expect(
      !frontEnd.tell(
        .setInflightMemory, FrontEnd.longs(count, 0) + description,
        descriptors: [event.descriptor.rawValue]))
    // The connection goes on.
    #expect(frontEnd.ask(.getFeatures) != nil)
  }
}
