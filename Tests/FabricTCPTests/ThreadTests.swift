import FabricPlatform
import FabricVerbs
import Synchronization
import Testing

@testable import FabricTCP

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

/// How many completions there are.
private func poll(_ queue: any CompletionQueue) -> Int {
  var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 64)
  var space = buffer.mutableSpan
  return queue.poll(into: &space)
}

@Suite("TCP adapter: threads", .serialized)
struct ThreadTests {
  /// As many threads as the adapter allows, each with its own part; in the end another one hangs up.
  /// The thread sanitizer watches when it is there.
  @Test(
    "posting, polling, registering and hanging up come from threads of their own",
    arguments: [TCPOptions.Checksums.always, .never])
  func eachItsOwn(_ checksums: TCPOptions.Checksums) throws {
    var options = TCPOptions()
    options.checksums = checksums
    let client = try Side(TCPAdapter(options))
    let server = try Side(TCPAdapter(options))
    server.accepts = false
    try server.listen("127.0.0.1:0")
    let sender = try client.makeQueuePair()
    let receiver = try server.makeQueuePair()
    try client.adapter.connect(
      sender, to: FabricAddress(fabric: "tcp", endpoint: server.endpoint), privateData: [],
      timeout: .seconds(5), events: client.events)
    try RawPeer.wait("connected") {
      client.poll()
      server.poll()
      if let request = server.requests.popLast() {
        try request.accept(receiver, privateData: [], events: server.events)
      }
      return client.establishedCount == 1 && server.establishedCount == 1
    }
    let (sends, receives) = (client.queue, server.queue)
    let domains = [client.domain, server.domain]
    let (source, target) = (client.memory, server.memory)
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
        do { try sender.postSend([request].span) } catch { return }
        progress.posted.add(1, ordering: .relaxed)
      },
      try progress.start("poll sends") { progress in
        progress.ended.add(poll(sends), ordering: .relaxed)
        sends.arm()
        sends.disarm()
      },
      try progress.start("post receives") { progress in
        let receive = ReceiveRequest(
          id: 1, elements: ScatterGatherList(target.element(offset: 4096, byteCount: 500)))
        do { try receiver.postReceive([receive].span) } catch { return }
        progress.receivesPosted.add(1, ordering: .relaxed)
      },
      try progress.start("poll receives") { progress in
        progress.received.add(poll(receives), ordering: .relaxed)
      },
      try progress.start("register") { _ in
        for domain in domains {
          let region = try! domain.allocate(byteCount: 4096, access: [.localWrite, .remoteWrite])
          let granted = try! domain.grant(
            .remoteWrite, to: region, offset: 0, byteCount: 8, only: nil)
          domain.revoke(granted)
          domain.deregister(region)
        }
      },
    ]
    let deadline = MonotonicTime.now + .seconds(60)
    func wait(_ condition: () -> Bool) {
      while !condition() && MonotonicTime.now < deadline { SystemThread.yield() }
    }
    wait { progress.received.load(ordering: .relaxed) >= 3000 }
    #expect(progress.received.load(ordering: .relaxed) >= 3000)
    #expect(sender.state == .readyToSend && receiver.state == .readyToSend)
    sender.disconnect()
    wait { receiver.state == .error }
    progress.isOver.store(true, ordering: .relaxed)
    for thread in threads { thread.join() }

    // What was accepted ends, once.
    let posted = progress.posted.load(ordering: .relaxed)
    let receivesPosted = progress.receivesPosted.load(ordering: .relaxed)
    var ended = progress.ended.load(ordering: .relaxed)
    var received = progress.received.load(ordering: .relaxed)
    wait {
      ended += poll(sends)
      received += poll(receives)
      return ended >= posted && received >= receivesPosted
    }
    #expect(ended == posted && received == receivesPosted)
  }
}
