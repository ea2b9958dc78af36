import CAllocationCounter
import FabricCompletion
import FabricPlatform
import TestMachine
import TestSupport
import Testing

@testable import FabricHostDevices

@Suite("vhost-user: the hot path", .serialized, .untilStuck)
struct VhostUserHotPathTests {
  @Test(
    "VU-48: requests allocate nothing, copied or not",
    arguments: VhostUserBench.Fabric.allCases, [8192, 4096, 1000])
  func allocations(_ fabric: VhostUserBench.Fabric, _ cut: Int) throws {
    let bench = try VhostUserBench(fabric)
    let (frontEnd, queue) = try bench.start(size: 64)
    // Sixteen requests of four descriptors.
    for index in 0..<16 {
      let isRead = index % 2 == 0
      let offset = 0x10_0000 + index * 16384
      // Two blocks as one, apart, and one block in two parts.
      let rest = cut == 1000 ? 3096 : 8192 - cut
      let data = [
        MachinePiece(offset: offset, count: cut, isWritable: isRead),
        MachinePiece(offset: offset + cut + 8, count: rest, isWritable: isRead),
      ].filter { $0.count > 0 }
      let request = MachineRequest(
        type: isRead ? 0 : 1, sector: UInt64(index * 16), data: data, place: 0x8000 + index * 64)
      queue.add(request.pieces(in: bench.memory))
    }
    frontEnd.kicks[0].signal()
    #expect(frontEnd.run { queue.usedIndex == 16 })
    for entry in 16..<64 {
      let head = bench.memory.get(queue.available + 4 + 2 * (entry % 16), as: UInt16.self)
      bench.memory.put(head, at: queue.available + 4 + 2 * entry)
    }
    func round() {
      let target = queue.usedIndex &+ 16
      unsafe SharedWord16(at: bench.memory.place(queue.available + 2)).storeReleasing(target)
      while queue.usedIndex != target {
        if bench.service.turn() == 0 { SystemThread.yield() }
      }
    }
    for _ in 0..<150 { round() }
    let before = fabric_allocation_count()
    for _ in 0..<200 { round() }
    // What the passing of time takes, heartbeats for example, is no request's.
    #expect(fabric_allocation_count() - before < 10, "of \(200 * 16) requests")
    for index in 0..<16 {
      #expect(bench.memory.get(0x8010 + index * 64, as: UInt8.self) == 0)
    }
  }
}
