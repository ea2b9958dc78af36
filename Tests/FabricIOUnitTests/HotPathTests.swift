import CAllocationCounter
import FabricCompletion
import FabricHostDriver
import FabricMessaging
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("Remote volume queue: the hot path", .serialized, .untilStuck)
struct HotPathTests {
  /// Over shared memory and TCP, so that keys are looked up and lent, with each policy.
  @Test("Nothing is allocated for a request by several paths", arguments: PathPolicy.allCases)
  func allocations(_ policy: PathPolicy) throws {
    let all = try ManyPlaces(policy: policy)
    #expect(all.run { all.readyCount == 3 })
    func move(_ count: Int) {
      var sent = 0
      all.recorder.ends.removeAll(keepingCapacity: true)
      while all.recorder.ends.count < count {
        while sent < count, all.queue.freeCount > 32 {
          all.queue.submit(
            RemoteRequest(
              sent % 4 == 0 ? .write : .read, block: UInt64(sent % 64), blockCount: 1,
              region: all.region, offset: (sent % 64) * 4096, byteCount: 4096))
          sent += 1
        }
        all.queue.flushSubmissions()
        // Asleep it would take memory in debug builds.
        while all.recorder.ends.count < sent { all.service.turn() }
      }
    }
    all.recorder.ends.reserveCapacity(20_000)
    move(2_000)
    // The adapter's output memory grows once to as many blocks as were ever sending at a time.
    let counts = (0..<4).map { _ in
      let before = fabric_allocation_count()
      move(5_000)
      return fabric_allocation_count() - before
    }
    #expect(counts.contains(0), "\(policy): \(counts) for 5000 requests each")
  }
}
