import FabricCompletion
import FabricPlatform
import Synchronization
import Testing

/// What workers and updaters of a stress share.
private final class Arena: Sendable {
  let gate: Gate
  let insideCount = Atomic<Int>(0)
  let mostInside = Atomic<Int>(0)
  let isUpdating = Atomic(false)
  let overlapCount = Atomic<Int>(0)
  let isStopped = Atomic(false)
  let passCount = Atomic<Int>(0)
  let failedPassCount = Atomic<Int>(0)
  /// Not atomic on purpose: the gate alone orders its uses.
  nonisolated(unsafe) var pair = (0, 0)

  init(_ gate: Gate) { self.gate = gate }

  /// Goes in and out until stopped.
  func work() {
    let worker = gate.makeWorker()
    while !isStopped.load(ordering: .relaxed) {
      worker.enter()
      let count = insideCount.add(1, ordering: .relaxed).newValue
      if count > mostInside.load(ordering: .relaxed) { mostInside.store(count, ordering: .relaxed) }
      if isUpdating.load(ordering: .relaxed) { overlapCount.add(1, ordering: .relaxed) }
      let seen = unsafe pair
      if seen.0 != seen.1 { overlapCount.add(1, ordering: .relaxed) }
      insideCount.subtract(1, ordering: .relaxed)
      worker.leave()
      passCount.add(1, ordering: .relaxed)
    }
  }

  /// What an update does: a change that is wrong in the middle.
  func change() {
    isUpdating.store(true, ordering: .relaxed)
    if insideCount.load(ordering: .relaxed) != 0 { overlapCount.add(1, ordering: .relaxed) }
    unsafe pair.0 += 1
    for _ in 0..<20 { spinHint() }
    unsafe pair.1 += 1
    isUpdating.store(false, ordering: .relaxed)
  }
}

/// Runs `body` on `count` threads and gives their joining back.
func startThreads(_ count: Int, _ body: @escaping @Sendable (Int) -> Void) throws -> [SystemThread]
{
  try (0..<count).map { index in try SystemThread.start(name: "test \(index)") { body(index) } }
}

@Suite("Gate", .serialized)
struct GateTests {
  @Test(
    "CS-1, CS-2: no worker is inside during an update, with and without membarrier",
    arguments: [true, false])
  func updatesAreAlone(_ usesMembarrier: Bool) throws {
    let arena = Arena(Gate(usesMembarrier: usesMembarrier))
    let threads = try startThreads(3) { _ in arena.work() }
    let started = MonotonicTime.now
    var updateCount = 0
    var worst: UInt64 = 0
    var taken = 0
    while MonotonicTime.now < started + .milliseconds(700) {
      let before = MonotonicTime.now
      arena.gate.update { arena.change() }
      worst = max(worst, MonotonicTime.now.nanoseconds(since: before))
      updateCount += 1
      if updateCount % 3 == 0, arena.gate.deferUpdate({ arena.change() }) { taken += 1 }
    }
    arena.isStopped.store(true, ordering: .relaxed)
    for thread in threads { thread.join() }
    #expect(arena.overlapCount.load(ordering: .relaxed) == 0)
    let total = unsafe arena.pair.0
    #expect(total == updateCount + taken)
    #expect(updateCount > 100)
    // Workers really were inside at once, and were not starved.
    #expect(arena.mostInside.load(ordering: .relaxed) > 1)
    #expect(arena.passCount.load(ordering: .relaxed) > updateCount)
    // Bounded under saturation: a few time slices of a busy machine, not "some day".
    #expect(worst < 500_000_000, "the longest update took \(worst) ns")
  }

  @Test("CS-3: updates one after the other starve no worker")
  func workersAreNotStarved() throws {
    let arena = Arena(Gate())
    let passes = (0..<2).map { _ in Counter() }
    let updates = Counter()
    let updaters = try startThreads(2) { _ in
      while !arena.isStopped.load(ordering: .relaxed) {
        arena.gate.update { arena.change() }
        updates.value.add(1, ordering: .relaxed)
      }
    }
    let workers = try startThreads(2) { index in
      let worker = arena.gate.makeWorker()
      while !arena.isStopped.load(ordering: .relaxed) {
        worker.enter()
        worker.leave()
        passes[index].value.add(1, ordering: .relaxed)
      }
    }
    for round in 1...100 {
      // Neither side gets ahead for long: each round all of them move on.
      let seen = passes.map { $0.value.load(ordering: .relaxed) }
      let updated = updates.value.load(ordering: .relaxed)
      #expect(
        waitUntil {
          updates.value.load(ordering: .relaxed) > updated + 1
            && zip(passes, seen).allSatisfy { $0.value.load(ordering: .relaxed) > $1 }
        }, "somebody did not get in in round \(round)")
    }
    arena.isStopped.store(true, ordering: .relaxed)
    for thread in updaters + workers { thread.join() }
    #expect(unsafe arena.pair.0 > 100)
  }

  @Test("CS-4: a deferred update runs at once when nobody is inside")
  func deferredRunsAtOnce() {
    let gate = Gate()
    let counter = Counter()
    #expect(gate.deferUpdate { counter.value.add(1, ordering: .relaxed) })
    #expect(counter.value.load(ordering: .relaxed) == 1)
  }

  @Test("CS-4: a deferred update is run by the last worker to leave", arguments: [true, false])
  func lastLeaverRunsDeferred(_ usesMembarrier: Bool) {
    let gate = Gate(usesMembarrier: usesMembarrier)
    let counter = Counter()
    let first = gate.makeWorker()
    let second = gate.makeWorker()
    first.enter()
    second.enter()
    #expect(gate.deferUpdate { counter.value.add(1, ordering: .relaxed) })
    #expect(gate.deferUpdate { counter.value.add(10, ordering: .relaxed) })
    #expect(counter.value.load(ordering: .relaxed) == 0)
    first.leave()
    #expect(counter.value.load(ordering: .relaxed) == 0)
    second.leave()
    #expect(counter.value.load(ordering: .relaxed) == 11)
    first.enter()
    first.leave()
    #expect(counter.value.load(ordering: .relaxed) == 11)
  }

  @Test("CS-5: deferred updates are bounded, and refused beyond")
  func deferredUpdatesAreBounded() {
    let gate = Gate()
    let counter = Counter()
    let worker = gate.makeWorker()
    worker.enter()
    for _ in 0..<Gate.maximumDeferredCount {
      #expect(gate.deferUpdate { counter.value.add(1, ordering: .relaxed) })
    }
    #expect(!gate.deferUpdate { counter.value.add(1000, ordering: .relaxed) })
    worker.leave()
    #expect(counter.value.load(ordering: .relaxed) == Gate.maximumDeferredCount)
  }

  @Test("CS-4: deferred updates of busy workers all run, alone")
  func deferredStress() throws {
    let arena = Arena(Gate())
    let taken = Counter()
    let threads = try startThreads(4) { _ in
      let worker = arena.gate.makeWorker()
      for turn in 0..<300_000 {
        worker.enter()
        arena.insideCount.add(1, ordering: .relaxed)
        if arena.isUpdating.load(ordering: .relaxed) {
          arena.overlapCount.add(1, ordering: .relaxed)
        }
        if turn % 16 == 0, arena.gate.deferUpdate({ arena.change() }) {
          taken.value.add(1, ordering: .relaxed)
        }
        arena.insideCount.subtract(1, ordering: .relaxed)
        worker.leave()
      }
    }
    for thread in threads { thread.join() }
    #expect(arena.overlapCount.load(ordering: .relaxed) == 0)
    #expect(unsafe arena.pair.0 == taken.value.load(ordering: .relaxed))
    #expect(taken.value.load(ordering: .relaxed) > 0)
  }

  @Test("CS-6: threads register and leave beside updates")
  func registrationBesideUpdates() throws {
    let arena = Arena(Gate())
    let threads = try startThreads(3) { _ in
      for _ in 0..<50_000 {
        let worker = arena.gate.makeWorker()
        worker.enter()
        arena.insideCount.add(1, ordering: .relaxed)
        if arena.isUpdating.load(ordering: .relaxed) {
          arena.overlapCount.add(1, ordering: .relaxed)
        }
        arena.insideCount.subtract(1, ordering: .relaxed)
        worker.leave()
      }
    }
    for _ in 0..<1000 { arena.gate.update { arena.change() } }
    for thread in threads { thread.join() }
    #expect(arena.overlapCount.load(ordering: .relaxed) == 0)
  }

  @Test("CS-7: an update from inside one's own section traps")
  func updateFromInsideTraps() async {
    await #expect(processExitsWith: .failure) {
      let gate = Gate()
      let worker = gate.makeWorker()
      worker.enter()
      gate.update {}
    }
  }

  @Test("CS-7: an update inside an update traps")
  func nestedUpdateTraps() async {
    await #expect(processExitsWith: .failure) {
      let gate = Gate()
      gate.update { gate.update {} }
    }
  }
}

/// A number that threads count up.
final class Counter: Sendable {
  let value = Atomic<Int>(0)
}
