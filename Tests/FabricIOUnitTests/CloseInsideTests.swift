import FabricCompletion
import FabricHostDriver
import FabricIOUnit
import FabricPlatform
import FabricSharedMemory
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

/// A queue whose last owner lets go of it from within a call that the queue has made.
@Suite("Remote volume queue, closed from inside", .untilStuck)
struct CloseInsideTests {
  enum Moment: CaseIterable { case attached, completed, lost }

  /// Keeps a queue until its moment, and counts what ends.
  private final class Owner: RemoteVolumeHandler {
    let moment: Moment
    var queue: RemoteVolumeQueue?
    var endCount = 0
    var abortCount = 0
    var isAttached = false

    init(_ moment: Moment) { self.moment = moment }

    private func letGo() {
      queue?.close()
      queue = nil
    }

    func remoteVolume(_ queue: RemoteVolumeQueue, completed completions: Span<BlockCompletion>) {
      for index in completions.indices {
        endCount += 1
        if completions[index].status == .aborted { abortCount += 1 }
      }
      if moment == .completed { letGo() }
    }

    func remoteVolume(_ queue: RemoteVolumeQueue, changed state: RemoteVolumeQueue.State) {
      if case .attached = state {
        isAttached = true
        if moment == .attached { letGo() }
      }
      if case .connecting = state, isAttached, moment == .lost { letGo() }
    }
  }

  /// What does not keep it.
  private final class Watch {
    weak var queue: RemoteVolumeQueue?
  }

  @Test(
    "It ends every request once, and goes when the round has ended", arguments: Moment.allCases)
  func close(at moment: Moment) throws {
    for _ in 0..<20 {
      let unit = try TestUnit(try Scratch())
      let service = try CompletionService()
      let owner = Owner(moment)
      owner.queue = try RemoteVolumeQueue(
        unit.address("m"), adapter: try SharedMemoryAdapter(), service: service, handler: owner)
      let watch = Watch()
      watch.queue = owner.queue
      let region = try #require(try owner.queue?.allocate(byteCount: 1 << 20))
      owner.queue?.attach()
      func submit() {
        for index in 0..<64 {
          let request = RemoteRequest(
            .read, block: UInt64(index), blockCount: 1, region: region, offset: index * 4096,
            byteCount: 4096, tag: UInt64(index))
          owner.queue?.submit(request)
        }
        owner.queue?.flushSubmissions()
      }
      if moment == .attached { submit() }
      service.run(until: { owner.isAttached }, deadline: .now + .seconds(10))
      if moment == .completed { submit() }
      if moment == .lost {
        unit.server.stop()
        submit()
      }
      service.run(until: { owner.queue == nil }, deadline: .now + .seconds(10))
      for _ in 0..<4 { service.turn() }
      let isGone = watch.queue == nil
      #expect(isGone && owner.endCount == 64, "\(owner.endCount)")
      if moment == .attached { #expect(owner.abortCount == 64) }
    }
  }
}
