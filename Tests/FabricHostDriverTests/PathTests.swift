import FabricIOProtocol
import FabricMessaging
import FabricSimulated
import FabricStorage
import Glibc
@testable import FabricHostDriver
import TestSupport
import Testing

@Suite("Host driver: paths", .untilStuck)
struct PathTests {
  /// Lets all land at once, and returns how many requests each path had of `count` writes, `depth` of
  /// them under way at a time.
  private func shares(
    _ paths: SimulatedPaths, count: Int, depth: Int
  ) -> [UInt64] {
    let before = paths.queue.paths.paths.map(\.counters.requestCount)
    var free = Array(0..<UInt64(depth))
    var sent = 0
    var ended = 0
    while ended < count {
      while sent < count, let block = free.popLast() {
        paths.write(1, block: block)
        sent += 1
      }
      paths.store.land(using: &paths.random)
      paths.step()
      for end in paths.takeEnds() {
        free.append(end.tag)
        ended += 1
      }
    }
    return zip(paths.queue.paths.paths, before).map { $0.counters.requestCount - $1 }
  }

  @Test("Round-robin: each path in its turn")
  func roundRobin() throws {
    let paths = try SimulatedPaths(seed: 1, pathCount: 3, policy: .roundRobin)
    #expect(paths.run { paths.readyCount == 3 })
    #expect(shares(paths, count: 300, depth: 4) == [100, 100, 100])
  }

  @Test("The volume is that of the path that was named first, whichever answers sooner")
  func firstNamed() throws {
    for seed in 1...40 as ClosedRange<UInt64> {
      let paths = try SimulatedPaths(seed: seed, pathCount: 2, strangerCount: 2)
      #expect(
        paths.run {
          paths.readyCount == 2
            && paths.queue.paths.paths[2...].allSatisfy { $0.backoff.attemptCount > 0 }
        }, "seed \(seed)")
      #expect(paths.queue.paths.paths.map(\.isReady) == [true, true, false, false], "seed \(seed)")
    }
  }

  @Test("Where the path that was named first cannot be had, the next one says which volume it is")
  func nextNamed() throws {
    let paths = try SimulatedPaths(seed: 1, pathCount: 1, strangerCount: 1, absentCount: 1)
    let others = { [paths.queue.paths[0], paths.queue.paths[2]] }
    #expect(
      paths.run { paths.readyCount == 1 && others().allSatisfy { $0.backoff.attemptCount > 0 } })
    #expect(paths.queue.paths.paths.map(\.isReady) == [false, true, false])
  }

  @Test("A turn lasts for so many requests, or for so much data")
  func turns() throws {
    let paths = try SimulatedPaths(seed: 1, pathCount: 2, policy: .roundRobin, turnLength: 8)
    #expect(paths.run { paths.readyCount == 2 })
    func order(byteCount: UInt32, count: Int) -> [Int?] {
      (0..<count).map { _ in
        paths.queue.chooser.choose(paths.queue.paths, byteCount: byteCount, at: 0)
      }
    }
    let eight = [Int](repeating: 1, count: 8)
    #expect(order(byteCount: 4096, count: 16) == eight + eight.map { 1 - $0 })
    #expect(order(byteCount: 16384, count: 6) == [1, 1, 0, 0, 1, 1])
    #expect(order(byteCount: 1 << 20, count: 3) == [0, 1, 0])
    // A path that is gone in its turn: the other one has it.
    paths.queue.paths[1].accessState = .inaccessible
    #expect(order(byteCount: 0, count: 20) == .init(repeating: 0, count: 20))
  }

  @Test("What is submitted where an end is told goes out by each path at once")
  func submittedInside() throws {
    let paths = try SimulatedPaths(seed: 1, pathCount: 2, policy: .roundRobin)
    #expect(paths.run { paths.readyCount == 2 })
    var left = 50
    paths.recorder.next = { [unowned paths] queue in
      for _ in 0..<2 where left > 0 {
        left -= 1
        queue.submit(
          RemoteRequest(
            .read, block: 0, blockCount: 1, region: paths.region, offset: 0, byteCount: 4096))
      }
    }
    paths.write(1, block: 0)
    var ended = 0
    let haveEnded = paths.run {
      paths.store.land(using: &paths.random)
      ended += paths.takeEnds().count
      return ended == 51
    }
    #expect(haveEnded, "\(ended) of 51 ended")
    paths.recorder.next = nil
    #expect(paths.queue.paths.paths.map(\.counters.requestCount) == [25, 26])
  }

  @Test(
    "Failover: the first path alone, the next while that is lost, the first again when it is back")
  func failover() throws {
    let paths = try SimulatedPaths(seed: 2, pathCount: 2, policy: .failover)
    #expect(paths.run { paths.readyCount == 2 })
    #expect(shares(paths, count: 50, depth: 4) == [50, 0])
    let first = paths.queue.paths[0]
    paths.network.breakConnection(of: try #require(first.channel).fabricQueuePair)
    #expect(paths.run { !first.isReady })
    paths.write(2, block: 0)
    #expect(paths.queue.paths[1].sentCount == 1)
    #expect(paths.run { first.isReady })
    #expect(first.counters.lossCount == 1)
    #expect(shares(paths, count: 49, depth: 4)[0] > 45)
  }

  @Test("A policy is switched while requests are under way")
  func switching() throws {
    let paths = try SimulatedPaths(seed: 3, pathCount: 2, policy: .failover)
    #expect(paths.run { paths.readyCount == 2 })
    #expect(shares(paths, count: 20, depth: 4) == [20, 0])
    paths.queue.policy = .roundRobin
    #expect(shares(paths, count: 20, depth: 4) == [10, 10])
  }

  @Test("Queue-depth: the path with fewer requests under way has the next")
  func queueDepth() throws {
    let paths = try SimulatedPaths(seed: 4, pathCount: 2, policy: .queueDepth)
    #expect(paths.run { paths.readyCount == 2 })
    for block in 0..<6 as Range<UInt64> { paths.write(1, block: block) }
    #expect(paths.queue.paths.paths.map(\.sentCount) == [3, 3])
    // A path that is slow in answering keeps its own, and gets no more than the other.
    paths.queue.paths[0].sentLimit = 3
    paths.write(1, block: 6)
    #expect(paths.queue.paths.paths.map(\.sentCount) == [3, 4])
  }

  @Test("Service-time and latency-weighted: a slow path has few requests, and not none")
  func measured() throws {
    for policy in [PathPolicy.serviceTime, .latencyWeighted] {
      let paths = try SimulatedPaths(seed: 5, pathCount: 2, policy: policy)
      #expect(paths.run { paths.readyCount == 2 })
      let now = paths.queue.coarseNow
      for _ in 0..<64 {
        paths.queue.paths[0].measured(1_000_000, at: now)
        paths.queue.paths[1].measured(100_000, at: now)
      }
      var counts = [0, 0]
      for _ in 0..<110 {
        let next = paths.queue.chooser.choose(
          paths.queue.paths, byteCount: 4096, at: now)
        let chosen = try #require(next)
        counts[chosen] += 1
        paths.queue.paths[chosen].sentCount = (paths.queue.paths[chosen].sentCount + 1) % 7
      }
      #expect(counts[1] > 6 * counts[0], "\(policy): \(counts)")
      #expect(counts[0] > 0 || policy == .serviceTime, "\(policy): \(counts)")
      // Nothing was heard of the slow one for a while: it is tried again.
      paths.queue.paths[0].sentCount = 0
      let later = now + 2_000_000_000
      let isTried = (0..<20).contains { _ in
        paths.queue.chooser.choose(paths.queue.paths, byteCount: 4096, at: later) == 0
      }
      #expect(isTried)
      for path in paths.queue.paths.paths { path.sentCount = 0 }
    }
  }

  @Test("IO-60: optimised paths first, others while there is none, inaccessible ones never")
  func optimised() throws {
    let paths = try SimulatedPaths(seed: 6, pathCount: 3, policy: .optimisedFirst)
    #expect(paths.run { paths.readyCount == 3 })
    paths.queue.paths[0].accessState = .nonOptimised
    #expect(shares(paths, count: 30, depth: 4) == [0, 15, 15])
    paths.queue.paths[1].accessState = .inaccessible
    #expect(shares(paths, count: 30, depth: 4) == [0, 0, 30])
    paths.queue.paths[2].accessState = .inaccessible
    #expect(shares(paths, count: 30, depth: 4) == [30, 0, 0])
  }

  @Test("IO-75: of a lost connection's calls those of vendors end with EIO, the others go on")
  func lostCalls() throws {
    let paths = try SimulatedPaths(seed: 7, pathCount: 2)
    #expect(paths.run { paths.readyCount == 2 })
    var vendors: [ControlAnswer] = []
    var others: [ControlAnswer] = []
    paths.queue.control(ControlCall(ControlCode(rawValue: 0x8000_0001))) { vendors.append($0) }
    paths.queue.control(ControlCall(.blockSize)) { others.append($0) }
    // Both went by the first path, and nothing has been heard yet.
    let channel = try #require(paths.queue.paths[0].channel)
    paths.network.breakConnection(of: channel.fabricQueuePair)
    #expect(paths.run { vendors.count == 1 && others.count == 1 })
    #expect(vendors == [ControlAnswer(errno: EIO)])
    #expect(others == [ControlAnswer(result: 4096)])
    #expect(paths.queue.paths[0].counters.lossCount == 1)
  }

  @Test("With every number of an epoch waiting for its fence no connection is attempted")
  func numbersRunOut() throws {
    let paths = try SimulatedPaths(seed: 8, pathCount: 2)
    #expect(paths.run { paths.readyCount == 2 })
    let queue = try #require(paths.queue)
    let first = queue.paths[0]
    for number in 0...UInt8.max {
      queue.dead.append(
        DeadConnection(
          PathConnection(
            queue, path: first, name: ConnectionName(epoch: queue.epoch, number: number),
            serial: 0)))
      queue.dead.last?.isAsked = true
    }
    paths.network.breakConnection(of: try #require(first.channel).fabricQueuePair)
    #expect(paths.run { first.lossReason.contains("has not fenced any of the last 256") })
    #expect(first.connection == nil && first.reconnectAt != nil)
    queue.dead = []
    #expect(paths.run { first.isReady })
  }
}
