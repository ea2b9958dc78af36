import FabricPlatform
import FabricStorage
import Testing

@Suite("Fault store")
struct FaultStoreTests {
  @Test("ST-70: a plan is read from its text")
  func plansAreRead() throws {
    let text = "delay=1ms:read;error=write:mediaWriteError:blocks=8-15;error=any:aborted:nth=3"
    #expect(
      try FaultPlan(parsing: text)
        == FaultPlan(
          delays: [.init(.milliseconds(1), of: .read)],
          failures: [
            .init(.mediaWriteError, of: .write, blocks: 8...15),
            .init(.aborted, first: 3, count: 1),
          ]))
    for wrong in [
      "", "delay", "delay=", "delay=1", "delay=1h", "delay=1ms:reed", "delay=1ms:read:x",
      "error=write", "error=write:success", "error=write:oops", "error=wrote:aborted",
      "error=write:aborted:blocks=9-8", "error=write:aborted:blocks=", "error=write:aborted:nth=0",
      "error=write:aborted:often", "sleep=1ms", "delay=1ms;",
    ] {
      #expect(throws: FaultPlan.ParsingError.self, "\(wrong)") {
        _ = try FaultPlan(parsing: wrong)
      }
    }
  }

  @Test("ST-71: chosen requests fail, and only those")
  func chosenRequestsFail() throws {
    let base = try MemoryStore(byteCount: 1 << 20)
    let plan = try FaultPlan(
      parsing: "error=write:mediaWriteError:blocks=8-15;error=read:mediaReadError:nth=2:count=2")
    let store = FaultStore(over: base, plan: plan)
    let queue = try store.makeQueue(depth: 16)
    let buffer = TestBuffer(byteCount: 65536)
    buffer.fill(6, byteCount: 65536)
    let writes = queue.run(
      (0..<5).map { .on(store, .write, $0 * 5, 5, at: buffer.address, tag: $0) })
    #expect(
      writes.map(\.status)
        == [.success, .mediaWriteError, .mediaWriteError, .mediaWriteError, .success])
    var statuses: [BlockStatus] = []
    for _ in 0..<5 {
      statuses.append(queue.run(.on(store, .read, 8, 1, at: buffer.address)).status)
    }
    #expect(statuses == [.success, .mediaReadError, .mediaReadError, .success, .success])
    #expect(buffer.bytes(4096).allSatisfy { $0 == 0 })
  }

  @Test("ST-72: delayed requests end no earlier than told, without holding up the thread")
  func delaysHold() throws {
    let base = try MemoryStore(byteCount: 1 << 20)
    let store = FaultStore(
      over: base, plan: FaultPlan(delays: [.init(.milliseconds(20), of: .read)]))
    let queue = try store.makeQueue(depth: 32)
    let buffer = TestBuffer(byteCount: 4096)
    let start = MonotonicTime.now
    let reads = (0..<31).map {
      BlockRequest.on(store, .read, UInt64($0), 1, at: buffer.address, tag: UInt64($0))
    }
    #expect(queue.submit(reads.span) == 31)
    #expect(queue.submit([BlockRequest(.flush, tag: 99)].span) == 1)
    let batch = CompletionBatch(capacity: 32)
    #expect(queue.poll(into: batch) == 1)
    #expect(batch[0].tag == 99)
    #expect(MonotonicTime.now.nanoseconds(since: start) < 20_000_000)
    var count = 0
    queue.drain { _ in count += 1 }
    let taken = MonotonicTime.now.nanoseconds(since: start)
    #expect(count == 31)
    #expect(taken >= 20_000_000 && taken < 400_000_000)
  }
}
