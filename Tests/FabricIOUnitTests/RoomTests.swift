import FabricHostDriver
import FabricIOUnit
import FabricMessaging
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import Synchronization
import TestSupport
import Testing

@Suite("A unit without room for another connection", .untilStuck)
struct RoomTests {
  @Test("MS-18: a host that waits asks again, and gets in when there is room")
  func asksAgain() throws {
    let scratch = try Scratch()
    let adapter = try CrampedAdapter()
    let unit = try TestUnit(scratch, adapter: adapter)
    adapter.hasRoom.store(false, ordering: .relaxed)
    var options = RemoteVolumeQueue.Options()
    options.isPatientAtFirst = true
    let host = try TestHost(unit.address("m"), options: options)
    #expect(
      host.run {
        host.lines.values.contains {
          $0.contains("attempt 2, next in") && $0.contains("no room for a queue pair")
        }
      }, "\(host.lines.values)")
    #expect(host.failure == nil)
    adapter.hasRoom.store(true, ordering: .relaxed)
    #expect(host.run { host.isAttached })
    #expect(host.perform(.read, 0, 1)?.status == .success)
  }

  @Test("MS-18: a host that does not wait is told that the unit was not to be had")
  func impatient() throws {
    let scratch = try Scratch()
    let adapter = try CrampedAdapter()
    let unit = try TestUnit(scratch, adapter: adapter)
    adapter.hasRoom.store(false, ordering: .relaxed)
    let host = try TestHost(unit.address("m"))
    #expect(host.run { host.failure != nil })
    guard case .unreachable(_, let reason)? = host.failure else {
      Issue.record("expected it not to be reached, got \(host.states)")
      return
    }
    #expect(reason.hasSuffix("/m: the peer cannot take a channel now: no room for a queue pair"))
  }
}

/// An adapter over shared memory whose queue pairs run out when a test says so.
private final class CrampedAdapter: ForwardingAdapter {
  let base: any Adapter
  let hasRoom = Atomic<Bool>(true)

  init() throws { base = try SharedMemoryAdapter() }

  func makeQueuePair(_ attributes: QueuePairAttributes) throws(ResourceError) -> any QueuePair {
    guard hasRoom.load(ordering: .relaxed) else {
      throw .invalidCapacity("no room for a queue pair")
    }
    return try base.makeQueuePair(attributes)
  }
}
