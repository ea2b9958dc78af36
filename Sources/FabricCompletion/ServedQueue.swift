import FabricPlatform
import FabricVerbs
import Synchronization

/// A handler with the queue pair whose completions it gets.
final class Monitor {
  let handler: any CompletionHandler
  init(_ handler: any CompletionHandler) { self.handler = handler }
}

/// A completion queue that the service watches, and who gets what comes out of it.
///
/// The handlers change under the service's gate; who dispatches is inside it and holds the claim.
@safe
final class ServedQueue {
  let queue: any CompletionQueue
  /// Odd while a thread polls it or dispatches from it.
  private let claim = Atomic<UInt32>(0)
  private var monitors: [UInt32: Monitor] = [:]

  /// A slot of the table: open addressing, at most half full. The references are kept alive by
  /// `monitors`.
  @safe
  private struct Entry {
    var number: UInt32
    var monitor: Unmanaged<Monitor>?
  }
  private var entries: UnsafeMutableBufferPointer<Entry>
  private var mask: UInt32
  /// 32 less the bits of an index.
  private var shift: UInt32

  init(_ queue: any CompletionQueue) {
    self.queue = queue
    unsafe entries = Self.emptyTable(count: 16)
    mask = 15
    shift = 28
  }

  deinit { unsafe entries.deallocate() }

  // MARK: Claims

  /// Takes the queue for the calling thread.
  ///
  /// - Parameter isShared: whether other threads may want it, too.
  @inline(__always)
  func tryClaim(isShared: Bool) -> Bool {
    let seen = claim.load(ordering: .relaxed)
    if seen & 1 != 0 { return false }
    guard isShared else {
      claim.store(seen &+ 1, ordering: .relaxed)
      return true
    }
    // Acquires what the last holder did; pairs with `giveBack`.
    return claim.compareExchange(expected: seen, desired: seen &+ 1, ordering: .acquiring).exchanged
  }

  @inline(__always)
  func giveBack() {
    claim.store(claim.load(ordering: .relaxed) &+ 1, ordering: .releasing)
  }

  /// Waits until whoever holds the claim now has given it back.
  func waitForHolder() {
    let seen = claim.load(ordering: .acquiring)
    if seen & 1 == 0 { return }
    while claim.load(ordering: .acquiring) == seen { SystemThread.yield() }
  }

  // MARK: Handlers

  /// Where the search for `number` begins: multiplied by 2^32 over the golden ratio, so that
  /// numbers with the same low bits spread, too.
  @inline(__always)
  private func home(of number: UInt32) -> UInt32 { (number &* 0x9E37_79B1) &>> shift }

  /// Whose completions `number` stands for; nil when nobody's.
  @inline(__always)
  func monitor(of number: UInt32) -> Unmanaged<Monitor>? {
    var index = home(of: number)
    while true {
      let entry = unsafe entries[Int(index)]
      guard let monitor = unsafe entry.monitor else { return nil }
      if entry.number == number { return unsafe monitor }
      index = (index &+ 1) & mask
    }
  }

  func setMonitor(_ monitor: Monitor, of number: UInt32) {
    removeMonitor(of: number)
    monitors[number] = monitor
    if monitors.count * 2 <= Int(mask) + 1 {
      insert(monitor, of: number)
    } else {
      grow()
    }
  }

  /// Takes an entry out and moves those behind it up, so that no search ends at the hole.
  func removeMonitor(of number: UInt32) {
    guard monitors.removeValue(forKey: number) != nil else { return }
    var hole = home(of: number)
    while unsafe entries[Int(hole)].number != number || entries[Int(hole)].monitor == nil {
      hole = (hole &+ 1) & mask
    }
    var next = (hole &+ 1) & mask
    while unsafe entries[Int(next)].monitor != nil {
      let distance = unsafe (next &- home(of: entries[Int(next)].number)) & mask
      if distance >= (next &- hole) & mask {
        unsafe entries[Int(hole)] = entries[Int(next)]
        hole = next
      }
      next = (next &+ 1) & mask
    }
    unsafe entries[Int(hole)] = Entry(number: 0, monitor: nil)
  }

  private func insert(_ monitor: Monitor, of number: UInt32) {
    var index = home(of: number)
    while unsafe entries[Int(index)].monitor != nil { index = (index &+ 1) & mask }
    unsafe entries[Int(index)] = Entry(number: number, monitor: .passUnretained(monitor))
  }

  private func grow() {
    unsafe entries.deallocate()
    mask = mask &* 2 &+ 1
    shift -= 1
    unsafe entries = Self.emptyTable(count: Int(mask) + 1)
    for (number, monitor) in monitors { insert(monitor, of: number) }
  }

  private static func emptyTable(count: Int) -> UnsafeMutableBufferPointer<Entry> {
    let table = UnsafeMutableBufferPointer<Entry>.allocate(capacity: count)
    unsafe table.initialize(repeating: Entry(number: 0, monitor: nil))
    return unsafe table
  }
}

/// A source as the rounds see it: a class, so that a round can refer to it without counting.
final class ServedSource {
  let source: any ProgressSource
  let isTimer: Bool

  init(_ source: any ProgressSource) {
    self.source = source
    isTimer = source.isTimer
  }
}
