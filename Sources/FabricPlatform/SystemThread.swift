import CFabricLinux

/// A thread of the operating system, for work that must not share one with others. The
/// corresponding C type is `pthread_t`.
public final class SystemThread: @unchecked Sendable {
  private let thread: pthread_t

  private init(thread: pthread_t) {
    self.thread = thread
  }

  /// What a new thread runs, on its way there.
  private final class Work {
    let body: @Sendable () -> Void
    init(_ body: @escaping @Sendable () -> Void) { self.body = body }
  }

  /// Starts a thread that runs `body` and ends; somebody must `join` it.
  ///
  /// - Parameter name: what tools show; cut after 15 bytes.
  public static func start(
    name: String, _ body: @escaping @Sendable () -> Void
  ) throws(Errno) -> SystemThread {
    var thread = pthread_t()
    let work = unsafe Unmanaged.passRetained(Work(body))
    let result = unsafe pthread_create(
      &thread, nil,
      { argument in
        let work = unsafe Unmanaged<Work>.fromOpaque(argument!).takeRetainedValue()
        work.body()
        return nil
      }, work.toOpaque())
    guard result == 0 else {
      unsafe work.release()
      throw Errno(rawValue: result)
    }
    _ = unsafe pthread_setname_np(thread, String(decoding: name.utf8.prefix(15), as: UTF8.self))
    return SystemThread(thread: thread)
  }

  /// Waits until the thread has ended. Once only, and never on the thread itself.
  public func join() { pthread_join(thread, nil) }

  /// Tells the living threads of this process apart; never 0. No system call.
  public static var currentIdentity: UInt64 { UInt64(pthread_self()) }

  /// Lets other threads have the processor. The corresponding C call is `sched_yield`.
  public static func yield() { sched_yield() }

  /// Waits between two attempts at what has no call that waits and gives up again.
  public static func sleep(milliseconds: Int) {
    var time = timespec(
      tv_sec: milliseconds / 1000, tv_nsec: (milliseconds % 1000) * 1_000_000)
    _ = unsafe nanosleep(&time, nil)
  }
}
