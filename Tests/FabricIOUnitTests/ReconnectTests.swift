import FabricCompletion
import FabricHostDriver
import FabricIOUnit
import FabricMessaging
import FabricPlatform
import FabricStorage
import FabricVerbs
import TestSupport
import Testing

@Suite("Remote volume: loss and return", .untilStuck)
struct ReconnectTests {
  func fileVolume(_ scratch: Scratch, delay: Duration? = nil) throws -> Volume {
    let store = try FileStore.open(
      path: scratch.file("f.img"), options: .init(byteCountIfMissing: 1 << 24))
    guard let delay else { return Volume(name: "f", store: store) }
    return Volume(
      name: "f", store: FaultStore(over: store, plan: FaultPlan(delays: [.init(delay)])),
      identifier: store.identifier)
  }

  @Test("IO-37: a unit that goes in mid-write and comes back: everything ends with success, once")
  func unitComesBack() throws {
    let scratch = try Scratch()
    var unit: TestUnit? = try TestUnit(scratch) { _ in
      [try fileVolume(scratch, delay: .milliseconds(300))]
    }
    let host = try TestHost(unit!.address("f"))
    #expect(host.run { host.isAttached })
    for index in 0..<64 {
      host.fill(UInt8(index), offset: index * 4096)
      host.queue.submit(
        RemoteRequest(
          .write, block: UInt64(index), blockCount: 1, region: host.region, offset: index * 4096,
          byteCount: 4096, tag: UInt64(index)))
    }
    host.queue.flushSubmissions()
    host.service.turn()
    unit = nil
    #expect(host.run { !host.isAttached })
    #expect(host.ends.count < 64)
    // Some attempts fail first, and each says so.
    #expect(host.run { host.lines.values.contains { $0.contains("attempt 3, next in") } })
    unit = try TestUnit(scratch) { _ in [try fileVolume(scratch)] }
    #expect(host.run { host.ends.count == 64 })
    #expect(Set(host.ends.map(\.tag)).count == 64)
    #expect(host.ends.allSatisfy { $0.status == .success })
    #expect(host.queue.reconnectCount == 1)
    host.fill(0xFF, count: 64 * 4096)
    #expect(host.perform(.read, 0, 32)?.status == .success)
    for index in 0..<32 { #expect(host.holds(UInt8(index), offset: index * 4096)) }
    _ = unit
  }

  @Test("A unit that does not come back: one clear error after the time-out, and an end for each")
  func timeOut() throws {
    let scratch = try Scratch()
    var unit: TestUnit? = try TestUnit(scratch)
    var options = RemoteVolumeQueue.Options()
    options.timeout = .milliseconds(400)
    let host = try TestHost(unit!.address("m"), options: options)
    #expect(host.run { host.isAttached })
    unit = nil
    #expect(host.run { !host.isAttached })
    let start = MonotonicTime.now
    #expect(host.perform(.read, 0, 1)?.status == .aborted)
    #expect(MonotonicTime.now.nanoseconds(since: start) > 200_000_000)
    guard case .timedOut? = host.failure else {
      Issue.record("expected a time-out, got \(host.states)")
      return
    }
    #expect("\(host.failure!)".contains("after 400 ms, because"))
    #expect(host.perform(.read, 0, 1)?.status == .aborted)
  }

  @Test("A unit that is there and does not answer: the time-out holds, too")
  func silentStore() throws {
    let scratch = try Scratch()
    let unit = try TestUnit(scratch) { _ in
      let base = try MemoryStore(byteCount: 1 << 20)
      return [
        Volume(
          name: "stuck",
          store: FaultStore(over: base, plan: FaultPlan(delays: [.init(.seconds(3), of: .read)])))
      ]
    }
    var options = RemoteVolumeQueue.Options()
    options.timeout = .milliseconds(200)
    let host = try TestHost(unit.address("stuck"), options: options)
    #expect(host.run { host.isAttached })
    #expect(host.perform(.write, 0, 1)?.status == .success)
    #expect(host.perform(.read, 0, 1)?.status == .aborted)
    let words = "\(host.failure!)"
    #expect(
      words.contains("a request has no answer") && words.contains("the volume hangs"), "\(words)")
  }

  @Test("Another volume in the old one's place is not written to")
  func volumeChanges() throws {
    let scratch = try Scratch()
    var unit: TestUnit? = try TestUnit(scratch)
    let host = try TestHost(unit!.address("m"))
    #expect(host.run { host.isAttached })
    unit = nil
    unit = try TestUnit(scratch)
    #expect(host.run { host.failure != nil })
    #expect("\(host.failure!)".contains("its identity was"))
    #expect(host.perform(.write, 0, 1)?.status == .aborted)
    _ = unit
  }

  @Test("Waits between attempts double up to a bound, and differ")
  func backoff() {
    var backoff = Backoff(first: .milliseconds(100), longest: .seconds(1))
    var generator = SystemRandomNumberGenerator()
    let waits = (0..<8).map { _ in backoff.next(using: &generator) }
    for (wait, whole) in zip(waits, [100, 200, 400, 800, 1000, 1000, 1000, 1000]) {
      #expect(wait <= .milliseconds(whole) && wait >= .milliseconds(whole * 3 / 4))
    }
    #expect(Set(waits).count > 1)
    backoff.succeeded()
    #expect(backoff.next(using: &generator) <= .milliseconds(100))
  }
}
