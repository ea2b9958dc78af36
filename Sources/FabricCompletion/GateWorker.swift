public import Synchronization
import FabricPlatform

/// One thread's way through a gate: registered from its making to its end.
///
/// Threads: the worker belongs to the thread that made it, or that called `moveToCallingThread`
/// last; to be moved only while outside.
@safe
public struct GateWorker: ~Copyable {
  /// 1 while inside. Nobody else writes to its cache line.
  @usableFromInline let inside: UnsafeMutablePointer<Atomic<UInt32>>
  @usableFromInline let pending: UnsafeMutablePointer<Atomic<UInt32>>
  @usableFromInline let gate: Gate

  init(gate: Gate, slot: Gate.Slot) {
    self.gate = gate
    unsafe inside = slot.inside
    unsafe pending = gate.pending
  }

  deinit { gate.unregister(unsafe Gate.Slot(inside)) }

  /// Enters the section; waits only while an update is pending or running. Not nestable.
  @inlinable
  @inline(__always)
  public borrowing func enter() {
    unsafe inside.pointee.store(1, ordering: .relaxed)
    gateBarrier()
    // Acquires what the last update wrote; pairs with the release in `Gate.open`.
    if unsafe pending.pointee.load(ordering: .acquiring) != 0 {
      unsafe gate.enterSlowly(inside)
    }
  }

  /// Leaves the section; may run deferred updates when it is the last to leave.
  @inlinable
  @inline(__always)
  public borrowing func leave() {
    // Pairs with the acquire in `Gate.isEmpty`: the update sees all that was done inside.
    unsafe inside.pointee.store(0, ordering: .releasing)
    gateBarrier()
    if unsafe pending.pointee.load(ordering: .relaxed) != 0 { gate.leaveSlowly() }
  }

  /// Makes the worker the calling thread's.
  public borrowing func moveToCallingThread() {
    unsafe Gate.Slot(inside).thread.pointee.store(
      SystemThread.currentIdentity, ordering: .relaxed)
  }
}

/// Keeps the compiler from exchanging a store to the slot and a load of `pending`. The processor
/// may: the updater's membarrier makes good for it.
@inlinable
@inline(__always)
func gateBarrier() {
  #if arch(x86_64) || arch(i386)
    // No instruction on this architecture.
    atomicMemoryFence(ordering: .acquiringAndReleasing)
  #else
    outlinedBarrier()
  #endif
}

@usableFromInline
func outlinedBarrier() { compilerBarrier() }
