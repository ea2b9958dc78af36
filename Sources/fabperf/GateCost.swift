import ArgumentParser
import FabricCompletion
import FabricPlatform
import Foundation
import Synchronization

#if HAS_URCU
  import CFabricURCU
#endif

struct GateCost: ParsableCommand {
  static let configuration = CommandConfiguration(
    commandName: "gate", abstract: "Cost of entering and leaving the gate, beside other locks.",
    discussion: """
      Nanoseconds of an enter/leave pair of each thread, for the gate, pthread_rwlock, a mutex and \
      liburcu's membarrier flavour (left out where liburcu-dev was missing at the build), with 1 \
      and 2 threads, with and without a thread that updates every millisecond. JSON: a list of \
      {lock, threads, updater, nanoseconds}.
      """)

  @Flag(help: "Print JSON instead of a table.")
  var json = false

  struct Row: Codable {
    let lock: String
    let threads: Int
    let updater: Bool
    let nanoseconds: Double
  }

  func run() throws {
    var rows: [Row] = []
    for subject in subjects {
      for threads in [1, 2] {
        for updater in [false, true] {
          rows.append(
            Row(
              lock: subject.name, threads: threads, updater: updater,
              nanoseconds: subject.measure(threads: threads, hasUpdater: updater)))
        }
      }
    }
    try show(rows)
  }

  private var subjects: [any Contender] {
    var subjects: [any Contender] = [GateContender(), RWLockContender(), MutexContender()]
    #if HAS_URCU
      subjects.append(URCUContender())
    #endif
    return subjects
  }

  private func show(_ rows: [Row]) throws {
    #if !HAS_URCU
      FileHandle.standardError.write(
        Data("liburcu is left out: liburcu-dev was not installed when fabperf was built\n".utf8))
    #endif
    if json {
      let encoder = JSONEncoder()
      encoder.outputFormatting = [.prettyPrinted, .sortedKeys]
      print(String(decoding: try encoder.encode(rows), as: UTF8.self))
      return
    }
    print("lock            threads  updater  ns per pair")
    for row in rows {
      print(
        row.lock.padding(toLength: 16, withPad: " ", startingAt: 0)
          + "\(row.threads)        \(row.updater ? "yes" : "no ")      "
          + String(format: "%.2f", row.nanoseconds))
    }
  }
}

/// Something that lets readers in beside each other.
protocol Contender: Sendable {
  var name: String { get }
  /// Enters and leaves `count` times on the calling thread.
  func pairs(_ count: Int)
  func update()
}

extension Contender {
  func measure(threads: Int, hasUpdater: Bool) -> Double {
    let count = 5_000_000
    let isOver = Occasion()
    let updater = hasUpdater ? startUpdater(until: isOver) : nil
    let total = Mutex(0.0)
    let workers = (0..<threads).map { index in
      startThread {
        try? Processor.bindCallingThread(toAvailable: index)
        pairs(count / 100)
        let start = MonotonicTime.now
        pairs(count)
        let nanoseconds = Double(MonotonicTime.now.nanoseconds(since: start))
        total.withLock { $0 += nanoseconds }
      }
    }
    for worker in workers { worker.join() }
    isOver.set()
    updater?.join()
    return total.withLock { $0 } / Double(count * threads)
  }

  private func startUpdater(until isOver: Occasion) -> JoinableThread {
    startThread {
      while !isOver.isSet {
        update()
        isOver.wait(.milliseconds(1))
      }
    }
  }
}

/// Set once; can be waited for.
final class Occasion: Sendable {
  private let word = Atomic<UInt32>(0)
  var isSet: Bool { word.load(ordering: .acquiring) != 0 }
  func set() {
    word.store(1, ordering: .releasing)
    Futex.wake(word)
  }
  func wait(_ duration: Duration) { Futex.wait(word, while: 0, timeout: duration) }
}

/// A thread whose end can be waited for.
final class JoinableThread: Sendable {
  fileprivate let isDone = Occasion()
  func join() { while !isDone.isSet { isDone.wait(.seconds(1)) } }
}

func startThread(_ body: @escaping @Sendable () -> Void) -> JoinableThread {
  let handle = JoinableThread()
  Thread.detachNewThread {
    body()
    handle.isDone.set()
  }
  return handle
}

struct GateContender: Contender {
  let name = "gate"
  private let gate = Gate()
  func pairs(_ count: Int) {
    let worker = gate.makeWorker()
    for _ in 0..<count {
      worker.enter()
      worker.leave()
    }
  }
  func update() { gate.update {} }
}

@safe
final class RWLockContender: Contender, @unchecked Sendable {
  let name = "pthread_rwlock"
  private let lock = UnsafeMutablePointer<pthread_rwlock_t>.allocate(capacity: 1)
  init() { unsafe pthread_rwlock_init(lock, nil) }
  deinit { unsafe lock.deallocate() }
  func pairs(_ count: Int) {
    for _ in 0..<count {
      unsafe pthread_rwlock_rdlock(lock)
      unsafe pthread_rwlock_unlock(lock)
    }
  }
  func update() {
    unsafe pthread_rwlock_wrlock(lock)
    unsafe pthread_rwlock_unlock(lock)
  }
}

final class MutexContender: Contender {
  let name = "mutex"
  private let lock = Mutex(())
  func pairs(_ count: Int) { for _ in 0..<count { lock.withLock { _ in } } }
  func update() { lock.withLock { _ in } }
}

#if HAS_URCU
  struct URCUContender: Contender {
    let name = "liburcu memb"
    func pairs(_ count: Int) {
      fabric_urcu_register()
      for _ in 0..<count {
        fabric_urcu_read_lock()
        fabric_urcu_read_unlock()
      }
      fabric_urcu_unregister()
    }
    func update() { fabric_urcu_synchronize() }
  }
#endif
