import FabricPlatform
public import Synchronization

/// Lets many threads work on a resource at once and one thread change it while no other is inside.
///
/// Made for work that happens millions of times a second and changes that happen when a connection
/// comes or goes: a worker pays two stores and two loads of its own cache line and a shared one;
/// the updater pays a system call that makes all workers' stores visible. (CS-1, CS-2)
///
/// After an update the workers that waited for its end go first, so updates cannot starve them. (CS-3)
@safe
public final class Gate: @unchecked Sendable {
  /// Bits of `pending`.
  enum Pending {
    /// An update is waited for or runs.
    static let closed: UInt32 = 1
    /// Always set where the system has no membarrier: every entry and exit takes the slow way,
    /// which has a full fence.
    static let fences: UInt32 = 2
  }

  /// Deferred updates that may wait at once. (CS-5)
  public static let maximumDeferredCount = 64

  /// On a cache line of its own, with nothing that changes more often.
  let pending: UnsafeMutablePointer<Atomic<UInt32>>
  private let usesFences: Bool
  /// One updater at a time.
  private let updaters = FutexLock()
  /// The thread whose update runs; 0 when none does.
  private let updatingThread = Atomic<UInt64>(0)
  /// Counts exits while closed; the updater sleeps on it.
  private let exits = Atomic<UInt32>(0)
  /// Workers that wait for the end of an update.
  private let waiting = Atomic<UInt32>(0)
  private let slotLock = FutexLock()
  private var slots: [Slot] = []
  private let deferredLock = FutexLock()
  private var deferred: [@Sendable () -> Void] = []
  private let deferredCount = Atomic<Int>(0)
  /// Counts attempts to run deferred updates, so that whoever holds the updaters' lock notices
  /// one that found it taken.
  private let attempts = Atomic<UInt32>(0)

  /// - Parameter usesMembarrier: false does without, as on systems that lack it.
  public init(usesMembarrier: Bool = true) {
    var usesFences = !usesMembarrier
    if usesMembarrier {
      do { try MemoryBarrier.registerThisProcess() } catch { usesFences = true }
    }
    self.usesFences = usesFences
    unsafe pending = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128)
      .bindMemory(to: Atomic<UInt32>.self, capacity: 1)
    unsafe pending.initialize(to: Atomic(usesFences ? Pending.fences : 0))
    deferred.reserveCapacity(Self.maximumDeferredCount)
  }

  deinit { unsafe UnsafeMutableRawPointer(pending).deallocate() }

  // MARK: Workers

  /// A worker's word and, beside it, who the worker is.
  @safe
  struct Slot {
    let inside: UnsafeMutablePointer<Atomic<UInt32>>

    init(_ inside: UnsafeMutablePointer<Atomic<UInt32>>) { unsafe self.inside = inside }

    var thread: UnsafeMutablePointer<Atomic<UInt64>> {
      unsafe (UnsafeMutableRawPointer(inside) + 64).assumingMemoryBound(to: Atomic<UInt64>.self)
    }
  }

  /// Registers the calling thread as a worker until the result ends.
  public func makeWorker() -> GateWorker {
    let memory = UnsafeMutableRawPointer.allocate(byteCount: 128, alignment: 128)
    let slot = unsafe Slot(memory.bindMemory(to: Atomic<UInt32>.self, capacity: 1))
    unsafe slot.inside.initialize(to: Atomic(0))
    unsafe (memory + 64).bindMemory(to: Atomic<UInt64>.self, capacity: 1)
      .initialize(to: Atomic(SystemThread.currentIdentity))
    slotLock.withLock { slots.append(slot) }
    return GateWorker(gate: self, slot: slot)
  }

  func unregister(_ slot: Slot) {
    precondition(
      unsafe slot.inside.pointee.load(ordering: .relaxed) == 0, "a worker ends inside the gate")
    slotLock.withLock { slots.removeAll { unsafe $0.inside == slot.inside } }
    unsafe UnsafeMutableRawPointer(slot.inside).deallocate()
  }

  @usableFromInline
  func enterSlowly(_ inside: UnsafeMutablePointer<Atomic<UInt32>>) {
    var isCounted = false
    while true {
      if usesFences { atomicMemoryFence(ordering: .sequentiallyConsistent) }
      if unsafe pending.pointee.load(ordering: .acquiring) & Pending.closed == 0 { break }
      precondition(!isUpdating, "a worker enters the gate from inside an update")
      if !isCounted {
        isCounted = true
        waiting.add(1, ordering: .acquiringAndReleasing)
      }
      unsafe inside.pointee.store(0, ordering: .releasing)
      leaveSlowly()
      while true {
        let value = unsafe pending.pointee.load(ordering: .acquiring)
        if value & Pending.closed == 0 { break }
        unsafe Futex.wait(pending.pointee, while: value)
      }
      unsafe inside.pointee.store(1, ordering: .relaxed)
      gateBarrier()
    }
    if isCounted, waiting.subtract(1, ordering: .acquiringAndReleasing).newValue == 0 {
      Futex.wake(waiting)
    }
  }

  @usableFromInline
  func leaveSlowly() {
    if usesFences { atomicMemoryFence(ordering: .sequentiallyConsistent) }
    guard unsafe pending.pointee.load(ordering: .acquiring) & Pending.closed != 0 else { return }
    exits.add(1, ordering: .releasing)
    Futex.wake(exits)
    if deferredCount.load(ordering: .sequentiallyConsistent) > 0 { runDeferredIfEmpty() }
  }

  // MARK: Updates

  /// Waits until no worker is inside, keeps them out, and runs `body`. Traps when the calling
  /// thread is inside or runs an update already.
  public func update<Result, Failure: Error>(
    _ body: () throws(Failure) -> Result
  ) throws(Failure) -> Result {
    precondition(!isUpdating, "an update inside an update of the same gate")
    precondition(!isCallerInside, "an update from inside the worker's own section")
    updaters.lock()
    defer {
      updaters.unlock()
      if deferredCount.load(ordering: .sequentiallyConsistent) > 0 { runDeferredIfEmpty() }
    }
    if unsafe pending.pointee.load(ordering: .relaxed) & Pending.closed == 0 { letWaitersIn() }
    close()
    waitUntilEmpty()
    updatingThread.store(SystemThread.currentIdentity, ordering: .relaxed)
    defer {
      runDeferred()
      open()
    }
    return try body()
  }

  /// Runs `body` alone like `update`, but never waits: at once when no worker is inside, else on
  /// the thread of the last worker to leave. Workers that come later wait for it. May be called
  /// from inside.
  ///
  /// - Returns: false when `maximumDeferredCount` updates wait already; `body` is not taken.
  public func deferUpdate(_ body: @escaping @Sendable () -> Void) -> Bool {
    let isTaken = deferredLock.withLock {
      guard deferred.count < Self.maximumDeferredCount else { return false }
      deferred.append(body)
      deferredCount.add(1, ordering: .sequentiallyConsistent)
      return true
    }
    if isTaken { runDeferredIfEmpty() }
    return isTaken
  }

  /// Runs deferred updates if no worker is inside and nobody else updates; else closes the gate
  /// for them and leaves them to the last worker, or to who holds the updaters' lock.
  private func runDeferredIfEmpty() {
    if isUpdating { return }
    attempts.add(1, ordering: .sequentiallyConsistent)
    while true {
      let seen = attempts.load(ordering: .sequentiallyConsistent)
      guard deferredCount.load(ordering: .sequentiallyConsistent) > 0, updaters.tryLock() else {
        return
      }
      if deferredCount.load(ordering: .sequentiallyConsistent) > 0 {
        close()
        if isEmpty {
          updatingThread.store(SystemThread.currentIdentity, ordering: .relaxed)
          runDeferred()
          open()
        }
      }
      updaters.unlock()
      // Pairs with the failed `tryLock` of an attempt that came while the lock was held.
      if attempts.load(ordering: .sequentiallyConsistent) == seen { return }
    }
  }

  private var isUpdating: Bool {
    updatingThread.load(ordering: .relaxed) == SystemThread.currentIdentity
  }

  private var isCallerInside: Bool {
    let caller = SystemThread.currentIdentity
    return slotLock.withLock {
      slots.contains { slot in
        unsafe slot.thread.pointee.load(ordering: .relaxed) == caller
          && slot.inside.pointee.load(ordering: .relaxed) != 0
      }
    }
  }

  private func letWaitersIn() {
    while true {
      let count = waiting.load(ordering: .acquiring)
      if count == 0 { return }
      Futex.wait(waiting, while: count)
    }
  }

  private func close() {
    unsafe pending.pointee.bitwiseOr(Pending.closed, ordering: .sequentiallyConsistent)
    if usesFences {
      atomicMemoryFence(ordering: .sequentiallyConsistent)
    } else {
      MemoryBarrier.thisProcess()
    }
  }

  private func open() {
    updatingThread.store(0, ordering: .relaxed)
    unsafe pending.pointee.bitwiseAnd(~Pending.closed, ordering: .releasing)
    unsafe Futex.wake(pending.pointee)
  }

  private var isEmpty: Bool {
    slotLock.withLock {
      slots.allSatisfy { unsafe $0.inside.pointee.load(ordering: .acquiring) == 0 }
    }
  }

  private func waitUntilEmpty() {
    for _ in 0..<100 {
      if isEmpty { return }
      spinHint()
    }
    while true {
      let seen = exits.load(ordering: .acquiring)
      if isEmpty { return }
      Futex.wait(exits, while: seen)
    }
  }

  private func runDeferred() {
    while let next = takeDeferred() { next() }
  }

  private func takeDeferred() -> (@Sendable () -> Void)? {
    deferredLock.withLock {
      guard !deferred.isEmpty else { return nil }
      deferredCount.subtract(1, ordering: .sequentiallyConsistent)
      return deferred.removeFirst()
    }
  }
}
