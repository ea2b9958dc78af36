public import FabricVerbs
import FabricPlatform
import Synchronization

/// As many threads at a connection as an adapter allows, each with its own part; in the end another
/// one hangs up. The thread sanitizer watches when it is there.
public struct ThreadDrill: Sendable {
  /// One end of the connection, with memory that it alone uses.
  public struct End: Sendable {
    let queuePair: any QueuePair
    let queue: any CompletionQueue
    let domain: any ProtectionDomain
    let memory: MemoryRegion

    public init(
      _ queuePair: any QueuePair, _ queue: any CompletionQueue, in domain: any ProtectionDomain,
      _ memory: MemoryRegion
    ) {
      self.queuePair = queuePair
      self.queue = queue
      self.domain = domain
      self.memory = memory
    }
  }

  /// What came of it: as many requests should have ended as were posted.
  public struct Outcome: Sendable {
    /// Messages that had arrived when nobody had hung up yet.
    public var early = 0
    /// Whether both ends were connected until then.
    public var werePaired = false
    public var sends = (posted: 0, ended: 0)
    public var receives = (posted: 0, ended: 0)
  }

  /// What the threads tell each other.
  private final class Progress: Sendable {
    let sendsPosted = Atomic(0)
    let sendsEnded = Atomic(0)
    let receivesPosted = Atomic(0)
    let receivesEnded = Atomic(0)
    let isOver = Atomic(false)

    /// Runs `body` until the end.
    func start(
      _ name: String, _ body: @escaping @Sendable (Progress) -> Void
    ) throws -> SystemThread {
      try SystemThread.start(name: name) {
        while !self.isOver.load(ordering: .relaxed) {
          body(self)
          SystemThread.yield()
        }
      }
    }
  }

  let sender: End
  let receiver: End
  let events: @Sendable () -> Void

  /// - Parameters:
  ///   - receiver: its memory has 8192 bytes at least, open to writes and reads.
  ///   - events: looks after the event channels of both ends, on a thread of its own.
  public init(from sender: End, to receiver: End, events: @escaping @Sendable () -> Void) {
    self.sender = sender
    self.receiver = receiver
    self.events = events
  }

  /// Runs until `count` messages have arrived, then hangs up and takes what ends; a minute at most.
  public func run(until count: Int) throws -> Outcome {
    let progress = Progress()
    let threads = try start(progress)
    let deadline = MonotonicTime.now + .seconds(60)
    func wait(_ condition: () -> Bool) {
      while !condition() && MonotonicTime.now < deadline { SystemThread.yield() }
    }
    wait { progress.receivesEnded.load(ordering: .relaxed) >= count }
    var outcome = Outcome()
    outcome.early = progress.receivesEnded.load(ordering: .relaxed)
    outcome.werePaired =
      sender.queuePair.state == .readyToSend && receiver.queuePair.state == .readyToSend
    sender.queuePair.disconnect()
    wait { receiver.queuePair.state == .error }
    progress.isOver.store(true, ordering: .relaxed)
    for thread in threads { thread.join() }

    outcome.sends.posted = progress.sendsPosted.load(ordering: .relaxed)
    outcome.receives.posted = progress.receivesPosted.load(ordering: .relaxed)
    outcome.sends.ended = progress.sendsEnded.load(ordering: .relaxed)
    outcome.receives.ended = progress.receivesEnded.load(ordering: .relaxed)
    wait {
      outcome.sends.ended += Self.poll(sender.queue)
      outcome.receives.ended += Self.poll(receiver.queue)
      return outcome.sends.ended >= outcome.sends.posted
        && outcome.receives.ended >= outcome.receives.posted
    }
    return outcome
  }

  private func start(_ progress: Progress) throws -> [SystemThread] {
    let (sender, receiver, events) = (sender, receiver, events)
    guard let key = receiver.memory.remoteKey else { return [] }
    return [
      try progress.start("post sends") { progress in
        let count = progress.sendsPosted.load(ordering: .relaxed)
        let opcode: SendOpcode = count % 50 == 0 ? .read : count % 7 == 0 ? .write : .send
        let request = SendRequest(
          id: UInt64(count), opcode: opcode,
          elements: ScatterGatherList(sender.memory.element(byteCount: count % 3 == 0 ? 500 : 8)),
          remoteAddress: receiver.memory.address, remoteKey: key)
        do { try sender.queuePair.postSend([request].span) } catch { return }
        progress.sendsPosted.add(1, ordering: .relaxed)
      },
      try progress.start("poll sends") { progress in
        progress.sendsEnded.add(Self.poll(sender.queue), ordering: .relaxed)
        sender.queue.arm()
        sender.queue.disarm()
      },
      try progress.start("post receives") { progress in
        let element = receiver.memory.element(offset: 4096, byteCount: 500)
        let receive = ReceiveRequest(id: 1, elements: ScatterGatherList(element))
        do { try receiver.queuePair.postReceive([receive].span) } catch { return }
        progress.receivesPosted.add(1, ordering: .relaxed)
      },
      try progress.start("poll receives") { progress in
        progress.receivesEnded.add(Self.poll(receiver.queue), ordering: .relaxed)
      },
      try progress.start("register") { _ in
        for domain in [sender.domain, receiver.domain] {
          let region = try! domain.allocate(byteCount: 4096, access: [.localWrite, .remoteWrite])
          let granted = try! domain.grant(
            .remoteWrite, to: region, offset: 0, byteCount: 8, only: nil)
          domain.revoke(granted)
          domain.deregister(region)
        }
      },
      try progress.start("events") { _ in events() },
    ]
  }

  /// How many completions there are.
  private static func poll(_ queue: any CompletionQueue) -> Int {
    var buffer = [WorkCompletion](repeating: WorkCompletion(), count: 64)
    var space = buffer.mutableSpan
    return queue.poll(into: &space)
  }
}
