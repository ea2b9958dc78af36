import FabricPlatform
import Glibc
import Synchronization

/// What a process that serves a device or an interface is told by its other threads, in order, and by signals.
///
/// Threads: any puts, one takes.
final class Inbox<Event: Sendable>: Sendable {
  private let events = Mutex<[Event]>([])
  private let wakeUp: EventDescriptor

  init() throws(Errno) { wakeUp = try EventDescriptor() }

  /// Readable when there is something to take.
  var descriptor: CInt { wakeUp.descriptor.rawValue }

  func put(_ event: Event) {
    events.withLock { $0.append(event) }
    wakeUp.signal()
  }

  /// What has come, and whether SIGINT, SIGTERM or SIGHUP has.
  func take() -> (events: [Event], mustEnd: Bool) {
    wakeUp.clear()
    let mustEnd = EndSignals.count.exchange(0, ordering: .relaxed) > 0
    return events.withLock { waiting in
      defer { waiting = [] }
      return (waiting, mustEnd)
    }
  }

  /// From now on signals that ask for an end come here. They stay out of the way of who ignores them.
  func takeSignals() { EndSignals.take(by: descriptor) }
}

/// Signals that ask for an end, for the one inbox that takes them.
private enum EndSignals {
  static let signalled = Atomic<CInt>(-1)
  static let count = Atomic<Int>(0)

  static func take(by descriptor: CInt) {
    signalled.store(descriptor, ordering: .releasing)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      Glibc.signal(number) { _ in
        // Nothing but calls that are safe in a handler.
        EndSignals.count.add(1, ordering: .relaxed)
        var one: UInt64 = 1
        _ = unsafe write(EndSignals.signalled.load(ordering: .acquiring), &one, 8)
      }
    }
    Glibc.signal(SIGPIPE, SIG_IGN)
  }
}
