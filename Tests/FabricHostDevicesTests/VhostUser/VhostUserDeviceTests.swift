import FabricBounded
import FabricHostDriver
import FabricPlatform
import FabricStorage
import Foundation
import TestMachine
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("vhost-user: a volume as a machine's disk", .untilStuck)
struct VhostUserDeviceTests {
  private func piece(_ offset: Int, _ count: Int, writable: Bool = false) -> MachinePiece {
    MachinePiece(offset: offset, count: count, isWritable: writable)
  }

  @Test(
    "VU-41, VU-43: what is written is read back, in pieces of all kinds",
    arguments: VhostUserBench.Fabric.allCases, [false, true])
  func data(_ fabric: VhostUserBench.Fabric, _ copiesWrites: Bool) throws {
    let bench = try VhostUserBench(fabric)
    bench.options.copiesWrites = copiesWrites
    let (frontEnd, queue) = try bench.start()
    // Whole, in whole blocks apart, in parts of blocks, and longer than a command takes.
    let cuts: [[Int]] = [
      [4096], [65536], [32768, 32768], [4096, 4096, 8192], [512, 3584, 4096], [1000, 3000, 96],
      [524_288], [262_144, 4096, 100, 257_948],
    ]
    for (round, cut) in cuts.enumerated() {
      var write: [MachinePiece] = []
      var read: [MachinePiece] = []
      var offset = 0x10_0000
      for count in cut {
        for place in stride(from: 0, to: count, by: 8) {
          let room = min(8, count - place)
          for byte in 0..<room {
            bench.memory.put(
              UInt8(truncatingIfNeeded: (offset + place) >> 5 ^ round &+ byte),
              at: offset + place + byte)
          }
        }
        write.append(piece(offset, count))
        read.append(piece(offset + 0x18_0000, count, writable: true))
        // Apart, so that they are not one.
        offset += count + 64
      }
      let total = cut.reduce(0, +)
      let sector = UInt64(round * 8)
      let written = try #require(frontEnd.perform(1, sector: sector, write, on: queue))
      #expect(written == (0, 1), "writing \(cut)")
      let found = try #require(frontEnd.perform(0, sector: sector, read, on: queue))
      #expect(found == (0, UInt32(total + 1)), "reading \(cut)")
      for (one, other) in zip(write, read) {
        #expect(
          unsafe memcmp(
            bench.memory.place(one.offset), bench.memory.place(other.offset), one.count) == 0,
          "\(cut)")
      }
    }
  }

  @Test("VU-32: tables of indirect descriptors carry requests, too")
  func indirect() throws {
    let bench = try VhostUserBench(.tcp)
    let (frontEnd, queue) = try bench.start(size: 4)
    bench.memory.fill(0x77, at: 0x10_0000, count: 65536)
    for (type, base, isWritable) in [(UInt32(1), 0x10_0000, false), (0, 0x20_0000, true)] {
      let data = (0..<16).map { piece(base + $0 * 4096, 4096, writable: isWritable) }
      let request = MachineRequest(type: type, data: data, place: 0x8000)
      queue.add(request.pieces(in: bench.memory), table: 0x4000)
      frontEnd.kicks[0].signal()
      #expect(frontEnd.run { !queue.reap().isEmpty })
      #expect(request.status(in: bench.memory) == 0)
    }
    #expect(bench.memory.holds(0x77, at: 0x20_0000, count: 65536))
  }

  @Test("VU-41: requests that make no sense end with an error, and the queue goes on")
  func badRequests() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    let block = [piece(0x10_0000, 4096, writable: true)]
    #expect(frontEnd.perform(0, sector: 8192, block, on: queue)?.status == 1)
    #expect(frontEnd.perform(0, sector: .max, block, on: queue)?.status == 1)
    #expect(frontEnd.perform(0, sector: 8184, block, on: queue)?.status == 0)
    #expect(frontEnd.perform(0, sector: 1, block, on: queue)?.status == 1)
    #expect(frontEnd.perform(0, [], on: queue)?.status == 1)
    let part = [piece(0x10_0000, 512, writable: true)]
    #expect(frontEnd.perform(0, part, on: queue)?.status == 1)
    // Without room for the answer, and without a header.
    bench.memory.put(UInt32(4), at: 0x8000)
    queue.add([piece(0x8000, 16)])
    frontEnd.kicks[0].signal()
    var ends: [(head: Int, byteCount: UInt32)] = []
    #expect(
      frontEnd.run {
        ends += queue.reap()
        return ends.count == 1
      })
    #expect(ends[0].byteCount == 0)
    bench.memory.put(UInt8(0xEE), at: 0x8100)
    queue.add([piece(0x8000, 8), piece(0x8100, 1, writable: true)])
    frontEnd.kicks[0].signal()
    #expect(frontEnd.run { !queue.reap().isEmpty })
    #expect(bench.memory.get(0x8100, as: UInt8.self) == 1)
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
  }

  @Test("VU-45: the device's name is the volume's; unknown requests are unsupported")
  func names() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    let room = piece(0x10_0000, 20, writable: true)
    let end = try #require(frontEnd.perform(8, [room], on: queue))
    #expect(end == (0, 21))
    let info = try #require(bench.device?.volume.info)
    let digits = "\(info.identifier)".replacing("-", with: "").prefix(20)
    let found = (0..<20).map { bench.memory.get(room.offset + $0, as: UInt8.self) }
    #expect(String(decoding: found, as: UTF8.self) == digits)
    for type: UInt32 in [2, 5, 14, 0x8000_0000] {
      #expect(frontEnd.perform(type, on: queue)?.status == 2)
    }
  }

  @Test("VU-44: ranges are given back and zeroed; those that are not the volume's are refused")
  func ranges() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    func range(_ type: UInt32, _ ranges: [(UInt64, UInt32, UInt32)]) -> UInt8? {
      for (index, (sector, count, flags)) in ranges.enumerated() {
        bench.memory.put(sector, at: 0xA000 + index * 16)
        bench.memory.put(count, at: 0xA008 + index * 16)
        bench.memory.put(flags, at: 0xA00C + index * 16)
      }
      return frontEnd.perform(type, [piece(0xA000, ranges.count * 16)], on: queue)?.status
    }
    bench.memory.fill(0x33, at: 0x10_0000, count: 65536)
    #expect(frontEnd.perform(1, [piece(0x10_0000, 65536)], on: queue)?.status == 0)
    #expect(range(13, [(0, 8, 0), (16, 8, 1)]) == 0)
    #expect(range(11, [(32, 8, 0)]) == 0)
    #expect(frontEnd.perform(0, [piece(0x20_0000, 65536, writable: true)], on: queue)?.status == 0)
    for block in 0..<16 {
      let isZero = block == 0 || block == 2 || block == 4
      #expect(
        bench.memory.holds(isZero ? 0 : 0x33, at: 0x20_0000 + block * 4096, count: 4096),
        "block \(block)")
    }
    #expect(range(11, [(0, 8, 1)]) == 2)
    #expect(range(13, [(0, 8, 2)]) == 2)
    #expect(range(13, [(8192, 8, 0)]) == 1)
    #expect(range(13, [(8184, 16, 0)]) == 1)
    #expect(range(13, [(0, 0, 0)]) == 1)
    #expect(range(13, [(4, 8, 0)]) == 1)
    #expect(range(13, [(0, 65536, 0)]) == 1)
    let many = [(UInt64, UInt32, UInt32)](repeating: (0, 8, 0), count: 33)
    #expect(range(11, many) == 1)
    #expect(frontEnd.perform(11, [piece(0xA000, 15)], on: queue)?.status == 1)
  }

  @Test("VU-40, VU-41: a volume for reading says so, and is not written")
  func readOnly() throws {
    let bench = try VhostUserBench()
    bench.options.volume.access = .readOnly
    let (frontEnd, queue) = try bench.start()
    #expect(bench.device?.device?.features.contains(.readOnly) == true)
    #expect(frontEnd.perform(1, [piece(0x10_0000, 4096)], on: queue)?.status == 1)
    let room = [piece(0x10_0000, 4096, writable: true)]
    #expect(frontEnd.perform(0, room, on: queue)?.status == 0)
  }

  @Test("VU-42: what a driver that cannot flush writes stays written; errors of the store are told")
  func withoutFlush() throws {
    let plan = try FaultPlan(parsing: "error=write:mediaWriteError:blocks=1-1")
    let bench = try VhostUserBench(plan: plan)
    let (frontEnd, queue) = try bench.start(without: [.flush, .eventIndex])
    #expect(frontEnd.perform(1, [piece(0x10_0000, 4096)], on: queue)?.status == 0)
    #expect(frontEnd.perform(1, sector: 8, [piece(0x10_0000, 4096)], on: queue)?.status == 1)
    #expect(frontEnd.perform(1, [piece(0x10_0000, 262_144)], on: queue)?.status == 1)
  }

  @Test("VU-16, VU-37: several queues at once, more requests than the volume takes; each ends once")
  func severalQueues() throws {
    let bench = try VhostUserBench(.tcp)
    bench.options.volume.depth = 8
    try bench.makeDevice()
    let frontEnd = try bench.connect()
    frontEnd.negotiate()
    #expect(frontEnd.ask(.getQueueCount)?.word == 4)
    #expect(frontEnd.setMemory())
    var queues: [MachineQueue] = []
    for number in 0..<4 {
      let queue = MachineQueue(bench.memory, size: 128, base: number * 0x2000)
      try frontEnd.start(queue, number: number)
      queues.append(queue)
    }
    for (number, queue) in queues.enumerated() {
      for index in 0..<40 {
        let data = piece(0x10_0000 + (number * 40 + index) * 4096, 4096)
        bench.memory.fill(UInt8(number * 40 + index), at: data.offset, count: 4096)
        let request = MachineRequest(
          type: 1, sector: UInt64((number * 40 + index) * 8), data: [data],
          place: 0x4_0000 + (number * 40 + index) * 64)
        queue.add(request.pieces(in: bench.memory))
      }
      frontEnd.kicks[number].signal()
    }
    var counts = [0, 0, 0, 0]
    #expect(
      frontEnd.run {
        for number in 0..<4 { counts[number] += queues[number].reap().count }
        return counts == [40, 40, 40, 40]
      })
    let room = piece(0x20_0000, 160 * 4096, writable: true)
    #expect(frontEnd.perform(0, [room], on: queues[0])?.status == 0)
    for index in 0..<160 {
      #expect(bench.memory.holds(UInt8(index), at: room.offset + index * 4096, count: 4096))
    }
    // One that is disabled is left alone until it is enabled again.
    #expect(frontEnd.tell(.setQueueEnabled, FrontEnd.words(1, 0)))
    queues[1].add(MachineRequest(type: 4, place: 0x8000).pieces(in: bench.memory))
    frontEnd.kicks[1].signal()
    #expect(frontEnd.perform(4, on: queues[0], place: 0x8100)?.status == 0)
    #expect(queues[1].reap().isEmpty)
    #expect(frontEnd.tell(.setQueueEnabled, FrontEnd.words(1, 1)))
    #expect(frontEnd.run { !queues[1].reap().isEmpty })
  }

  @Test("VU-34: the driver is called when it wants to be, and for a batch once")
  func calls() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(frontEnd.hasEvent(frontEnd.calls[0]))
    frontEnd.clear(frontEnd.calls[0])
    queue.wantCall(after: 3)
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(!frontEnd.hasEvent(frontEnd.calls[0]))
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(frontEnd.hasEvent(frontEnd.calls[0]))
  }

  @Test("VU-35: a queue without a descriptor for kicks is looked at all the same")
  func withoutKicks() throws {
    let bench = try VhostUserBench()
    let (frontEnd, queue) = try bench.start()
    #expect(frontEnd.perform(4, on: queue)?.status == 0)
    #expect(frontEnd.tell(.setQueueKick, FrontEnd.longs(0x100)))
    for _ in 0..<3 { #expect(frontEnd.perform(4, on: queue)?.status == 0) }
  }

  @Test("VU-21: guest memory is registered where the fabric takes it, and no key to it is left")
  func registration() throws {
    for fabric in VhostUserBench.Fabric.allCases {
      let bench = try VhostUserBench(fabric)
      let (frontEnd, queue) = try bench.start()
      #expect(frontEnd.perform(4, on: queue)?.status == 0)
      let region = try #require(bench.device?.session?.regions.first)
      #expect((region.registration != nil) == (fabric == .tcp))
    }
  }

  @Test("VU-47: where writes are to be copied the fabric gets none of the guest's memory for them")
  func copies() throws {
    let bench = try VhostUserBench(.tcp)
    bench.options.copiesWrites = true
    try bench.makeDevice()
    let device = try #require(bench.device)
    let (frontEnd, queue) = try bench.start()
    bench.stopUnit()
    for (index, type) in [UInt32(1), 0].enumerated() {
      let data = MachinePiece(offset: 0x10_0000, count: 65536, isWritable: type == 0)
      let request = MachineRequest(type: type, data: [data], place: 0x8000 + index * 64)
      queue.add(request.pieces(in: bench.memory))
    }
    frontEnd.kicks[0].signal()
    #expect(frontEnd.run { device.session?.requestCount == 2 })
    let kinds = (0..<device.requests.count).map { device.requests[$0] }.filter(\.isTaken)
    #expect(kinds.allSatisfy { $0.isCopied == ($0.kind == .write) })
  }
}
