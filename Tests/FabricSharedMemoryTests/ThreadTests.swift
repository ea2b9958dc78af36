import FabricPlatform
import FabricVerbs
import Synchronization
import Testing

@testable import FabricSharedMemory

/// What the threads of the test tell each other.
private final class Progress: Sendable {
  let posted = Atomic(0)
  let ended = Atomic(0)
  let receivesPosted = Atomic(0)
  let received = Atomic(0)
  let isOver = Atomic(false)

  /// Runs `body` until the end.
  func start(_ name: String, _ body: @escaping @Sendable (Progress) -> Void) throws -> SystemThread
  {
    try SystemThread.start(name: name) {
      while !self.isOver.load(ordering: .relaxed) {
        body(self)
        SystemThread.yield()
      }
    }
  }
}

@Suite("Shared-memory adapter: threads", .serialized)
struct ThreadTests {
  /// As many threads as the adapter allows, each with its own part; in the end another one hangs up.
  /// The thread sanitizer watches when it is there.
  @Test(
    "SM-12, SM-31, SM-46: posting, polling, registering and hanging up come from threads of their own",
    arguments: [SharedMemoryOptions.Mode.isolated, .direct])
  func eachItsOwn(_ mode: SharedMemoryOptions.Mode) throws {
    let pair = try ConnectedPair(mode, mode)
    let client = pair.client
    let server = pair.server
    let source = try client.domain.allocate(byteCount: 4096, access: .localWrite)
    let target = try server.domain.allocate(
      byteCount: 8192, access: [.localWrite, .remoteWrite, .remoteRead])
    let key = try #require(target.remoteKey)
    let progress = Progress()

    let threads = [
      try progress.start("post sends") { progress in
        let count = progress.posted.load(ordering: .relaxed)
        let opcode: SendOpcode = count % 50 == 0 ? .read : count % 7 == 0 ? .write : .send
        let request = SendRequest(
          id: UInt64(count), opcode: opcode,
          elements: ScatterGatherList(source.element(byteCount: count % 3 == 0 ? 500 : 8)),
          remoteAddress: target.address, remoteKey: key)
        do { try client.queuePair.postSend([request].span) } catch { return }
        progress.posted.add(1, ordering: .relaxed)
      },
      try progress.start("poll sends") { progress in
        client.poll()
        progress.ended.add(client.completions.count, ordering: .relaxed)
        client.completions = []
        client.queue.arm()
        client.queue.disarm()
      },
      try progress.start("post receives") { progress in
        let receive = ReceiveRequest(
          id: 1, elements: ScatterGatherList(target.element(offset: 4096, byteCount: 500)))
        do { try server.queuePair.postReceive([receive].span) } catch { return }
        progress.receivesPosted.add(1, ordering: .relaxed)
      },
      try progress.start("poll receives") { progress in
        server.poll()
        progress.received.add(server.completions.count, ordering: .relaxed)
        server.completions = []
      },
      try progress.start("register") { _ in
        for domain in [client.domain, server.domain] {
          let region = try! domain.allocate(
            byteCount: 4096, access: [.localWrite, .remoteWrite])
          let granted = try! domain.grant(
            .remoteWrite, to: region, offset: 0, byteCount: 8, only: nil)
          domain.revoke(granted)
          domain.deregister(region)
        }
      },
      try progress.start("events") { _ in
        try? client.pollEvents()
        try? server.pollEvents()
      },
    ]

    let deadline = MonotonicTime.now + .seconds(60)
    func wait(_ condition: () -> Bool) {
      while !condition() && MonotonicTime.now < deadline { SystemThread.yield() }
    }
    wait { progress.received.load(ordering: .relaxed) >= 3000 }
    #expect(progress.received.load(ordering: .relaxed) >= 3000)
    #expect(client.queuePair.state == .readyToSend && server.queuePair.state == .readyToSend)
    client.queuePair.disconnect()
    wait { server.queuePair.state == .error }
    progress.isOver.store(true, ordering: .relaxed)
    for thread in threads { thread.join() }

    // What was accepted ends, once.
    let posted = progress.posted.load(ordering: .relaxed)
    let receives = progress.receivesPosted.load(ordering: .relaxed)
    func ended() -> Int {
      client.poll()
      return progress.ended.load(ordering: .relaxed) + client.completions.count
    }
    func received() -> Int {
      server.poll()
      return progress.received.load(ordering: .relaxed) + server.completions.count
    }
    wait { ended() >= posted && received() >= receives }
    #expect(ended() == posted && received() == receives)
    pair.close()
  }
}
