import CFabricLinux
import FabricHostDevices
import FabricIOProtocol
import FabricNIC
import FabricNICHost
import FabricPlatform
import Glibc
import Synchronization

/// What the process that serves a device or a NIC is told by its other threads and by signals, in order.
///
/// Threads: any puts, one takes.
final class DeviceInbox: Sendable {
  enum Event: Sendable {
    case volume(HostVolumeEvent)
    case nic(HostNIC.State)
    /// What the unit has counted of a NIC, for the client of that number.
    case counted(Int, NICStatistics?)
    /// The device is made, or why not.
    case made(Result<any HostBlockDevice, HostDeviceError>)
    /// A control call has an answer, for the client of that number.
    case controlled(Int, FabricIOProtocol.ControlAnswer)
    /// SIGINT, SIGTERM or SIGHUP has come.
    case signal
    /// What was cached has been written back, or why not.
    case flushed(HostDeviceError?)
  }

  private let events = Mutex<[Event]>([])
  private let wakeUp: EventDescriptor
  /// Of the one that signals go to.
  private static let signalled = Atomic<CInt>(-1)
  private static let signalCount = Atomic<Int>(0)

  init() throws(Errno) { wakeUp = try EventDescriptor() }

  /// Readable when there is something to take.
  var descriptor: CInt { wakeUp.descriptor.rawValue }

  func put(_ event: Event) {
    events.withLock { $0.append(event) }
    wakeUp.signal()
  }

  func take() -> [Event] {
    wakeUp.clear()
    let signals = Self.signalCount.exchange(0, ordering: .relaxed)
    return events.withLock { waiting in
      defer { waiting = [] }
      return waiting + (signals > 0 ? [.signal] : [])
    }
  }

  /// From now on signals that ask for an end come here. They stay out of the way of who ignores them.
  func takeSignals() {
    Self.signalled.store(descriptor, ordering: .releasing)
    for number in [SIGINT, SIGTERM, SIGHUP] {
      Glibc.signal(number) { _ in
        // Nothing but calls that are safe in a handler.
        DeviceInbox.signalCount.add(1, ordering: .relaxed)
        var one: UInt64 = 1
        _ = unsafe write(DeviceInbox.signalled.load(ordering: .acquiring), &one, 8)
      }
    }
    Glibc.signal(SIGPIPE, SIG_IGN)
  }
}
